"""Small pictures for tests of ingestion."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def png(seed: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """Coloured blobs, unlike for unlike seeds, as a PNG file."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
