"""Any Pillow picture as RGB, 8 bits a channel, in sRGB.

Belongs here: colour modes, transparency, depth. Not here: opening files (`got_core.corpus.decode`), rotation
(`orientation`).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from got_core.pictures.profiles import to_srgb

_GREY = ("1", "L", "LA", "La")
_SHALLOW = {"L;2": 3, "L;4": 15}
"""White of grey pixels that are decoded to eight bits, by Pillow's name for how they are stored."""
_WITHOUT_PROFILE = ("LAB", "HSV", "YCbCr")
"""Modes whose colours are no device's: an embedded profile does not speak of them."""


def load(picture: Image.Image) -> None:
    """Decode the picture's pixels, with its transparent colour in their depth.

    A PNG names that colour in its own depth, and Pillow compares it with eight bits. Grey of two or four bits
    can only be recognised while the pixels are not yet decoded. Raises what Pillow's decoders raise.
    """
    key = picture.info.get("transparency")
    stored = next((tile[3] for tile in getattr(picture, "tile", ())), "")
    if isinstance(key, tuple) and picture.mode == "RGB" and (stored == "RGB;16B" or max(key) > 255):
        picture.info["transparency"] = tuple(level >> 8 for level in key)
    elif isinstance(key, int) and stored in _SHALLOW:
        picture.info["transparency"] = key * 255 // _SHALLOW[stored]
    picture.load()


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture in mode RGB; the same object where it is so already.

    Colours go through the embedded profile to sRGB, or plainly where there is none that fits; alpha, a
    transparent colour or palette entry is laid over white; 16-bit grey becomes 8-bit. The picture is not
    turned. Done twice, nothing more happens.
    """
    load(picture)
    flat = _eight_bits(picture) if picture.mode.startswith("I") or picture.mode == "F" else picture
    flat = flat.convert("LA") if flat.mode == "La" else flat  # of which Pillow converts nothing else
    device = _device_mode(flat.mode)
    transform = to_srgb(picture.info.get("icc_profile", b""), device) if device else None
    if flat.has_transparency_data:
        rgba = flat.convert("RGBA")
        if transform is not None:
            colours = transform.apply((rgba if device == "RGB" else flat).convert(device))
            colours.putalpha(rgba.getchannel("A"))
            rgba = colours
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if transform is not None:
        return _bare(transform.apply(flat.convert(device)))
    return flat if flat.mode == "RGB" else _bare(flat.convert("RGB"))


def _device_mode(mode: str) -> str | None:
    """The mode of the pixels that a profile speaks of."""
    if mode in _WITHOUT_PROFILE:
        return None
    return "L" if mode in _GREY else "CMYK" if mode == "CMYK" else "RGB"


def _bare(picture: Image.Image) -> Image.Image:
    """Without the profile of the pixels that there were before."""
    picture.info.pop("icc_profile", None)
    return picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey (in 16- or 32-bit storage) by its high byte, floats up to 1 as shares of white; values that
    fit in 8 bits stay. A transparent value becomes alpha."""
    stored = np.asarray(picture)
    values = np.nan_to_num(stored.astype(np.float64))
    if picture.mode.startswith("I;16") or values.max(initial=0) > 255:
        values = values / 257
    elif picture.mode == "F" and values.max(initial=0) <= 1:
        values = values * 255
    grey = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if "transparency" in picture.info:
        grey.putalpha(
            Image.fromarray(np.where(stored == picture.info["transparency"], 0, 255).astype(np.uint8))
        )
    return grey
