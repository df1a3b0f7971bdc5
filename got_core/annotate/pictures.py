"""Pictures as they are sent to a model: in a size that its processor leaves alone, JPEG, base64.

Belongs here: the bytes and their name. Not here: reading image files (`got_core.corpus`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from functools import cached_property

from PIL import Image

from got_core.annotate.config import OpenAIConfig
from got_core.pictures.colours import to_rgb

_MAX_ASPECT = 200  # Qwen's processors refuse pictures with more between their sides


class Picture:
    """An image in RGB, its name, and what is sent of it."""

    def __init__(self, image: Image.Image, config: OpenAIConfig) -> None:
        self.image = to_rgb(image)
        self._config = config

    @cached_property
    def hash(self) -> str:
        """SHA-256 of size and pixels, before resizing."""
        return _hash(self.image)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as sent."""
        return size_sent(self.image.width, self.image.height, self._config)

    @property
    def tokens(self) -> int:
        """Visual tokens, at most."""
        return image_tokens(*self.size, self._config)

    @cached_property
    def data_url(self) -> str:
        """`data:image/jpeg;base64,...`"""
        image = self.image
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self._config.image_quality)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def pixels_name(image: Image.Image) -> str:
    """`Picture.hash` of an image: the name by which a ledger knows it."""
    return _hash(to_rgb(image))


def _hash(image: Image.Image) -> str:
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def size_sent(width: int, height: int, config: OpenAIConfig) -> tuple[int, int]:
    """Size of a picture of that width and height when it is sent, in pixels.

    As large as it is, but within `image_side`, its number of pixels within the vision model's limits, and
    both sides multiples of the model's factor. So its processor (`smart_resize` in transformers' Qwen2-VL)
    changes nothing, and pixels of the model's answers are pixels of what was sent.
    """
    model = config.vision
    least, most = model.min_pixels / model.factor**2, model.max_pixels // model.factor**2
    longest = config.image_side // model.factor
    pixels, longer = width * height, max(width, height)
    scale = max(1.0, math.sqrt(model.min_pixels / pixels))
    scale = min(scale, config.image_side / longer, math.sqrt(model.max_pixels / pixels))
    shorter, longer = (
        min(max(1, round(side * scale / model.factor)), longest) for side in sorted((width, height))
    )
    shorter = max(shorter, -(-longer // _MAX_ASPECT))
    while shorter * longer > most:
        longer -= 1
    while shorter * longer < least:
        if shorter < longer or longer == longest:
            shorter += 1
        else:
            longer += 1
    sides = shorter * model.factor, longer * model.factor
    return sides if width <= height else sides[::-1]


def image_tokens(width: int, height: int, config: OpenAIConfig) -> int:
    """Visual tokens of a picture as it is sent, at most."""
    factor = config.vision.factor
    return -(-width // factor) * -(-height // factor) + 16
