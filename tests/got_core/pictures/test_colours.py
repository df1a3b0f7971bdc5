"""Any mode, depth, transparency and profile becomes the same RGB."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import decode_image
from got_core.pictures import profiles
from got_core.pictures.colours import to_rgb
from tests.got_core.pictures import icc
from tests.got_core.pictures.awkward import encode, png

ADOBE = icc.rgb_profile(icc.ADOBE, 563 / 256)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def plain(mode: str, value: object, profile: bytes | None = None) -> Image.Image:
    image = Image.new(mode, (40, 40), value)  # type: ignore[arg-type]
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def colour(image: Image.Image) -> np.ndarray:
    made = to_rgb(image)
    assert made.mode == "RGB" and to_rgb(made) is made
    return np.asarray(made)[0, 0].astype(int)


def assert_near(found: np.ndarray, expected: object, levels: int = 2) -> None:
    assert np.abs(found - expected).max() <= levels, f"{found} is not {expected}"


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA"])
def test_what_is_transparent_is_white(mode: str) -> None:
    assert list(colour(plain(mode, (0,) * len(mode)))) == [255, 255, 255]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"]
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    colour(plain(mode, 0))


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("I;16", 128 * 257, 128), ("I", 128 * 257, 128), ("I", 128, 128), ("F", 128.0, 128), ("F", 0.5, 128)],
)
def test_depth_keeps_brightness(mode: str, value: float, expected: int) -> None:
    image = plain(mode, value)
    image.putpixel((39, 39), 1 if mode == "F" and value <= 1 else value)
    assert list(colour(image)) == [expected] * 3


@pytest.mark.parametrize(("bits", "key"), [(1, 1), (1, 0), (2, 1), (4, 5), (8, 85), (16, 0x5555)])
def test_a_transparent_level_is_found_at_any_depth(bits: int, key: int) -> None:
    top = 2**bits - 1
    levels = [key] * 16 + [top - key] * 16
    packed = int("".join(f"{level:0{bits}b}" for level in levels), 2).to_bytes(4 * bits, "big")
    data = png(bits, 0, [packed] * 32, 32, tRNS=struct.pack(">H", key))
    image = decode_image(data, IngestConfig())
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((31, 0)) == (round((top - key) * 255 / top),) * 3


def test_a_transparent_colour_of_sixteen_bits_is_found() -> None:
    key, other = (0x1234, 0x5678, 0x9ABC), (0x2345, 0x5678, 0x9ABC)
    row = struct.pack(">96H", *key * 16, *other * 16)
    image = decode_image(png(16, 2, [row] * 32, 32, tRNS=struct.pack(">3H", *key)), IngestConfig())
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((31, 0)) == (0x23, 0x56, 0x9A)


# Published coordinates of sRGB's own red, green and blue in the wider spaces.
@pytest.mark.parametrize(
    ("profile", "wide", "expected"),
    [
        (ADOBE, (219, 0, 0), (255, 0, 0)),
        (ADOBE, (144, 255, 60), (0, 255, 0)),
        (ADOBE, (0, 0, 250), (0, 0, 255)),
        (icc.rgb_profile(icc.P3), (234, 51, 35), (255, 0, 0)),
        (icc.rgb_profile(icc.P3), (117, 251, 76), (0, 255, 0)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "RGBX"])
def test_wide_colours_come_to_srgb(profile: bytes, wide: tuple, expected: tuple, mode: str) -> None:
    made = (
        plain("RGB", wide).convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else plain("RGB", wide)
    )
    image = made.convert(mode)
    image.info["icc_profile"] = profile
    assert_near(colour(image), expected, 4)


def test_cmyk_and_grey_go_through_their_profiles() -> None:
    for inks, expected in (
        ((0, 0, 0, 0), 255),
        ((255, 0, 0, 0), 119),
        ((0, 0, 0, 255), 119),
        ((255,) * 4, 0),
    ):
        assert_near(colour(plain("CMYK", inks, icc.cmyk_profile())), expected)
    assert_near(colour(plain("L", 128, icc.grey_profile(1.0))), 188)
    assert_near(colour(plain("I;16", 128 * 257, icc.grey_profile(1.0))), 188)


def test_alpha_is_laid_over_white_after_the_profile() -> None:
    assert_near(colour(plain("RGBA", (219, 0, 0, 128), ADOBE)), (255, 127, 127))
    assert_near(colour(plain("RGBA", (219, 0, 0, 0), ADOBE)), 255, 0)
    assert_near(colour(plain("LA", (128, 255), icc.grey_profile(1.0))), 188)


def test_an_adobe_cmyk_jpeg_is_not_inverted() -> None:
    data = encode(plain("CMYK", (0, 0, 0, 0)), "JPEG", icc_profile=icc.cmyk_profile())
    assert decode_image(data, IngestConfig()).getpixel((9, 9)) == (255, 255, 255)


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"no profile at all",
        ADOBE[:200],
        ADOBE[:128] + b"\xff" * (len(ADOBE) - 128),
        icc.rgb_profile(((0.0,) * 3,) * 3),
        bytes(profiles.LARGEST_PROFILE + 1),
        icc.grey_profile(1.0),
        icc.cmyk_profile(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    ],
    ids=["empty", "text", "cut", "torn", "all black", "too large", "grey", "cmyk", "lab"],
)
def test_a_profile_that_cannot_be_used_leaves_the_colours(profile: bytes) -> None:
    assert list(colour(plain("RGB", (219, 3, 7), profile))) == [219, 3, 7]


def test_a_profile_of_colours_says_nothing_of_grey_or_inks() -> None:
    assert list(colour(plain("L", 128, ADOBE))) == [128] * 3
    assert list(colour(plain("CMYK", (255, 0, 0, 0), ADOBE))) == [0, 255, 255]
    assert list(colour(plain("LAB", (128, 128, 128), ADOBE))) == list(colour(plain("LAB", (128, 128, 128))))


@pytest.mark.parametrize("profile", [SRGB, icc.rgb_profile(icc.SRGB)], ids=["pillow", "other"])
def test_srgb_pictures_stay_bit_for_bit(profile: bytes) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image.info["icc_profile"] = profile
    assert to_rgb(image) is image
    assert (
        np.asarray(decode_image(encode(image, "PNG", icc_profile=profile), IngestConfig())) == noise
    ).all()


def test_decoded_pictures_carry_nothing_that_would_be_applied_again() -> None:
    image = decode_image(encode(plain("RGB", (219, 0, 0)), "PNG", icc_profile=ADOBE), IngestConfig())
    assert image.info == {}


def test_transforms_are_kept_by_profile_and_shared_by_threads() -> None:
    profiles._transform.cache_clear()
    noise = np.random.default_rng(0).integers(0, 256, (8, 200, 200, 3), dtype=np.uint8)
    images = [Image.fromarray(one) for one in noise]
    for image in images:
        image.info["icc_profile"] = bytes(bytearray(ADOBE))
    alone = [to_rgb(image).tobytes() for image in images]
    assert profiles._transform.cache_info().misses == 1
    with ThreadPoolExecutor(4) as pool:
        assert [image.tobytes() for image in pool.map(to_rgb, images * 4)] == alone * 4
    for k in range(40):
        to_rgb(plain("RGB", (1, 2, 3), icc.rgb_profile(icc.ADOBE, 1.5 + k / 256)))
    assert profiles._transform.cache_info().currsize <= 16


def test_the_callers_picture_is_left_alone() -> None:
    image = plain("RGBA", (219, 0, 0, 128), ADOBE)
    before = image.tobytes(), dict(image.info)
    to_rgb(image)
    assert (image.tobytes(), dict(image.info)) == before
