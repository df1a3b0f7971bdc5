"""From a picture's embedded colour profile to sRGB.

Belongs here: which ICC profile is used, and its transform. Not here: pictures without one (`colours`).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

LARGEST_PROFILE = 4 * 1024**2
"""Bytes of a profile, at most; a larger one is not used."""

SRGB_TOLERANCE = 2
"""Levels (of 255) by which a profile may differ from sRGB and still be taken for it: its pictures stay bit
for bit as they are. Makers' sRGB profiles differ by one level from each other."""

_SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
"""Colour space that a profile must be of, by the mode of the pixels that it describes."""
_FLAT = 16
"""Levels that a usable transform spans at least: a broken profile may make everything one colour."""


@dataclass(frozen=True)
class _Profile:
    digest: bytes
    data: bytes = field(compare=False, repr=False)


def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from pixels of mode L, RGB or CMYK to sRGB (mode RGB); perceptual, ImageCms' default.

    None where pixels are to be taken as they are: the profile is sRGB itself, is broken or too large, or
    describes another kind of pixels.
    """
    if mode not in _SPACES or not isinstance(profile, bytes) or len(profile) > LARGEST_PROFILE:
        return None
    return _transform(_Profile(hashlib.sha256(profile).digest(), profile), mode)


@lru_cache(maxsize=16)
def _transform(profile: _Profile, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile.data))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
        return transform if _is_useful(transform, mode) else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_useful(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    probe = _probe(mode)
    converted = np.asarray(transform.apply(probe)).astype(int)
    plain = np.asarray(probe.convert("RGB")).astype(int)
    return np.ptp(converted) >= _FLAT and (mode == "CMYK" or np.abs(converted - plain).max() > SRGB_TOLERANCE)


@cache
def _probe(mode: str) -> Image.Image:
    """All levels of each channel alone and of all together, and a lattice of mixtures."""
    channels = Image.getmodebands(mode)
    lattice = np.stack(np.meshgrid(*[np.linspace(0, 255, 9).round()] * channels), axis=-1)
    ramps = [np.outer(np.arange(256), kept) for kept in (*np.eye(channels), np.ones(channels))]
    levels = np.concatenate([lattice.reshape(-1, channels), *ramps]).astype(np.uint8)
    return Image.frombytes(mode, (1, len(levels)), levels.tobytes())
