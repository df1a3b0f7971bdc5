"""Scene to picture. Deterministic: the same scene gives the same pixels on every machine."""

from __future__ import annotations

import numpy as np
from PIL import Image

from got_core.scenes.shapes import coverage
from got_core.scenes.world import Background, Scene


def render(scene: Scene) -> Image.Image:
    """Anti-aliased RGB picture of side `scene.size`."""
    canvas = _background(scene.background, scene.size)
    for item in scene.objects:
        alpha = coverage(item.shape, item.x2 - item.x1, item.y2 - item.y1)[..., None]
        patch = canvas[item.y1 : item.y2, item.x1 : item.x2]
        patch += alpha * (np.asarray(item.rgb, dtype=np.float32) - patch)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), "RGB")


def _background(background: Background, size: int) -> np.ndarray:
    across = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    grey = background.level + background.slope[0] * across[None, :] + background.slope[1] * across[:, None]
    if background.noise:
        rng = np.random.default_rng(background.noise_seed)
        grey = grey + rng.normal(0.0, background.noise, (size, size)).astype(np.float32)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
