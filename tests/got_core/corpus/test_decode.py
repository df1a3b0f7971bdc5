"""Decoding: every colour mode and container that real folders hold, and the one exception for the rest."""

from __future__ import annotations

import io
import pickle
import random
import zlib

import numpy as np
import pytest
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import REASONS, ImageError, decode_image, is_truncated, sniff_format

CONFIG = IngestConfig()
RED, BLUE = (200, 30, 30), (30, 30, 200)


def halves(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(kind: str, **options: object) -> bytes:
    """Noise, so that the file has data to cut."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encode(Image.fromarray(noise), kind, **options)


def difference(image: Image.Image, xy: tuple[int, int], expected: tuple[int, int, int]) -> int:
    return int(np.abs(np.asarray(image)[xy[1], xy[0]].astype(int) - expected).max())


def assert_halves(image: Image.Image, tolerance: int = 12) -> None:
    assert image.mode == "RGB"
    for x, expected in ((8, RED), (image.width - 8, BLUE)):
        assert difference(image, (x, image.height // 2), expected) <= tolerance


@pytest.mark.parametrize(
    "data",
    [
        encode(halves(), "PNG"),
        encode(halves(), "JPEG", quality=95, subsampling=0),
        encode(halves(), "JPEG", quality=95, progressive=True, subsampling=0),
        encode(halves(), "WEBP", lossless=True),
        encode(halves().quantize(16), "PNG"),
        encode(halves("CMYK"), "JPEG", quality=95, subsampling=0),
        encode(halves("RGBA"), "PNG"),
        encode(halves(), "PNG", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
        encode(halves(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (64, 48))]),
        encode(halves(), "MPO", quality=95, subsampling=0, save_all=True, append_images=[halves()]),
    ],
    ids=["png", "jpeg", "progressive", "webp", "palette", "cmyk", "rgba", "apng", "animated-webp", "mpo"],
)
def test_colours_survive(data: bytes) -> None:
    assert_halves(decode_image(data, CONFIG))


def test_exif_rotation_is_applied() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: rotate by 90 degrees clockwise
    image = decode_image(encode(halves(), "JPEG", quality=95, subsampling=0, exif=turned), CONFIG)
    assert image.size == (48, 64)
    assert difference(image, (24, 8), RED) <= 12
    assert difference(image, (24, 56), BLUE) <= 12


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encode(halves(), "JPEG", quality=95, subsampling=0, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert_halves(decode_image(data, CONFIG))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparency_lies_over_white(mode: str) -> None:
    if mode in ("P", "L"):
        data = encode(Image.new(mode, (40, 40), 0), "PNG", transparency=0)
    else:
        data = encode(Image.new("RGBA", (40, 40), (0, 0, 0, 0)).convert(mode), "PNG")
    assert decode_image(data, CONFIG).getpixel((5, 5)) == (255, 255, 255)


def test_half_transparent_is_mixed_with_white() -> None:
    data = encode(Image.new("RGBA", (40, 40), (255, 0, 0, 128)), "PNG")
    assert decode_image(data, CONFIG).getpixel((0, 0)) == (255, 127, 127)


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((40, 40), 128 * 257, dtype=np.uint16))
    assert decode_image(encode(grey, "PNG"), CONFIG).getpixel((0, 0)) == (128, 128, 128)
    dark = Image.fromarray(np.full((40, 40), 200, dtype=np.uint16))  # of 65535: nearly black
    assert decode_image(encode(dark, "PNG"), CONFIG).getpixel((0, 0)) == (1, 1, 1)


def reason(data: bytes, config: IngestConfig = CONFIG) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, config)
    assert caught.value.reason in REASONS
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        ("empty_file", b""),
        ("zero_filled", bytes(4096)),
        ("not_an_image", b"just some words"),
        ("not_an_image", b"<!DOCTYPE html><html>404</html>"),
        ("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
        ("unsupported_format", encode(halves(), "GIF")),
        ("unsupported_format", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("unsupported_format", b"\0\0\0\x18ftypheic" + bytes(64)),
        ("too_small", encode(halves(size=(200, 31)), "PNG")),
        ("extreme_aspect", encode(halves(size=(40, 321)), "PNG")),
        ("decompression_bomb", encode(Image.new("1", (10000, 5001)), "PNG")),
        ("decompression_bomb", encode(Image.new("1", (30000, 30000)), "PNG")),
    ],
)
def test_reasons(expected: str, data: bytes) -> None:
    assert reason(data) == expected


def test_limits_are_inclusive() -> None:
    assert decode_image(encode(halves(size=(256, 32)), "PNG"), CONFIG).size == (256, 32)
    data = photo("PNG")
    assert decode_image(data, IngestConfig(max_bytes=len(data))).size == (64, 64)
    assert reason(data, IngestConfig(max_bytes=len(data) - 1)) == "too_large"


def test_a_format_of_the_recipe_is_read() -> None:
    assert_halves(decode_image(encode(halves(), "BMP"), IngestConfig(formats=("BMP",))))
    assert reason(encode(halves(), "PNG"), IngestConfig(formats=("BMP",))) == "unsupported_format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated_at_any_place(kind: str, share: float) -> None:
    data = photo(kind)
    assert not is_truncated(data, kind)
    assert reason(data[: int(len(data) * share)]) == "truncated"


def test_a_thumbnail_does_not_hide_that_the_end_is_missing() -> None:
    exif = b"Exif\0\0" + photo("JPEG", quality=20)[:20000]  # holds an end marker of its own
    data = photo("JPEG", exif=exif)
    assert not is_truncated(data, "JPEG")
    assert is_truncated(data[:-500], "JPEG")


def test_a_jpeg_filled_up_with_zeros_is_truncated_not_grey() -> None:
    data = photo("JPEG", quality=90)
    assert reason(data[: len(data) // 2] + bytes(len(data))) == "truncated"


def test_damaged_inside_is_corrupt() -> None:
    data = bytearray(photo("PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason(bytes(data)) == "corrupt"
    data = bytearray(photo("WEBP", lossless=True))
    data[30:300] = bytes(270)
    assert reason(bytes(data)) == "corrupt"


def test_compressed_metadata_bomb_is_refused() -> None:
    text = b"zTXt" + b"k\0\0" + zlib.compress(bytes(80_000_000))
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    data = encode(halves(), "PNG")
    assert reason(data[:33] + chunk + data[33:]) == "decompression_bomb"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_random_damage_gives_a_picture_or_an_image_error(kind: str) -> None:
    rng = random.Random(kind)
    original = photo(kind)
    for _ in range(150):
        data = bytearray(original)
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert decode_image(bytes(data[: rng.randint(1, len(data))]), CONFIG).mode == "RGB"
        except ImageError as error:
            assert error.reason in REASONS


def test_image_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageError("too_small", "3x3")))
    assert (error.reason, error.detail, str(error)) == ("too_small", "3x3", "too_small: 3x3")


def test_formats_by_first_bytes() -> None:
    assert sniff_format(photo("JPEG")) == "JPEG"
    assert sniff_format(b"\0\0\0\x18ftypavif") == "AVIF"
    assert sniff_format(b"\0\0\0\x18ftypisom") is None  # a film
    assert sniff_format(b"") is None


def test_a_senseless_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="image_shard_size"):
        IngestConfig(image_shard_size=0)
