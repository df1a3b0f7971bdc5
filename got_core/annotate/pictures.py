"""Pictures as they are sent to a model: resized to a limit, JPEG, base64.

Belongs here: the bytes and their name. Not here: reading image files (`got_core.corpus`).
"""

from __future__ import annotations

import base64
import hashlib
import io
from functools import cached_property

from PIL import Image

from got_core.annotate.config import OpenAIConfig
from got_core.pictures.colours import to_rgb

_SMALLEST = 56  # vision models refuse pictures of less than a few patches
_PATCH = 28  # pixels of a visual token's side, in Qwen2-VL and later; others need fewer tokens


class Picture:
    """An image in RGB, its name, and what is sent of it."""

    def __init__(self, image: Image.Image, config: OpenAIConfig) -> None:
        self.image = to_rgb(image)
        self._side, self._quality = config.image_side, config.image_quality

    @cached_property
    def hash(self) -> str:
        """SHA-256 of size and pixels, before resizing."""
        digest = hashlib.sha256(f"{self.image.mode} {self.image.width}x{self.image.height} ".encode())
        digest.update(self.image.tobytes())
        return digest.hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as sent: the longer side within the limit, tiny crops enlarged."""
        return size_sent(self.image.width, self.image.height, self._side)

    @property
    def tokens(self) -> int:
        """Visual tokens, at most."""
        return image_tokens(*self.size)

    @cached_property
    def data_url(self) -> str:
        """`data:image/jpeg;base64,...`"""
        image = self.image
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self._quality)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def size_sent(width: int, height: int, side: int) -> tuple[int, int]:
    """Size of a picture of that width and height when it is sent, in pixels."""
    scale = min(1.0, side / max(width, height))
    if min(width, height) * scale < _SMALLEST:
        scale = min(_SMALLEST / min(width, height), side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def image_tokens(width: int, height: int) -> int:
    """Visual tokens of a picture as it is sent, at most."""
    return -(-width // _PATCH) * -(-height // _PATCH) + 16
