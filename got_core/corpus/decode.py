"""One file's bytes to one RGB picture, or one reason why not.

Belongs here: recognising formats, limits, truncation. Does not belong here: colours and rotation
(``got_core.pictures``), where bytes come from (``got_core.corpus.ingest``), what becomes of a refused file.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Protocol

from PIL import Image

from got_core.pictures.colours import load, to_rgb
from got_core.pictures.orientation import upright

REASONS: dict[str, str] = {
    "empty_file": "zero bytes long",
    "zero_filled": "only NUL bytes, as a disk recovery or an interrupted download leaves",
    "not_an_image": "the first bytes belong to no image format",
    "lfs_pointer": "a Git LFS pointer instead of the picture",
    "unsupported_format": "an image format that the recipe does not read",
    "truncated": "the end of the file is missing",
    "corrupt": "recognised, but it does not decode",
    "decompression_bomb": "more pixels (or compressed metadata, or bytes of an archive) than the limit",
    "too_large": "more bytes than the limit",
    "too_small": "shorter side below the limit",
    "extreme_aspect": "longer over shorter side above the limit",
    "permission_denied": "the file may not be read",
    "vanished": "listed, but no longer there",
    "changed": "another size, or time and content, than when listed; the new version is in a later shard",
    "broken_link": "a symbolic link to nothing, or in a circle",
    "outside_root": "leads out of the raw folder, or of the archive that it is a member of",
    "not_a_file": "a folder, pipe, socket or device",
    "linked_folder": "a folder behind a symbolic link, which is not followed",
    "unreadable_folder": "a folder that may not be listed",
    "bad_name": "a file name that is not UTF-8",
    "unreadable": "the operating system or the object store reports another error",
    "bad_metadata": "what stands beside the picture in its archive does not say source and licence readably",
    "bad_archive": "the tar or parquet file is damaged here; what came before it is kept",
    "archive_limit": "the tar has more members or bytes than the limit; what came before is kept",
    # Only of tables of URLs; all of them are tried again in the next run of the shard:
    "bad_url": "not an http or https address without user name and password",
    "forbidden_address": "a private, loopback, link-local, metadata or otherwise not public address",
    "too_many_redirects": "more redirects than the limit",
    "opted_out": "the server's headers say that the picture is not to be used this way",
    "http_error": "the server answers with another status than 200",
    "bad_response": "an answer that breaks off, is compressed or is no HTTP",
    "timed_out": "not complete within the time limit",
    "unreachable": "no connection to the host",
    "taken_down": "on the takedown list: it stays out",
    # Of tables:
    "bad_line": "a line of CSV that is no record: an open quote, too many fields, not UTF-8",
    "bad_event": "what lies where bucket events are expected and is none",
    "incomplete_row": "the table leaves out the URL, the picture's bytes, a path or the instruction",
    # Only of edit pairs:
    "identical_images": "source and target have the same bytes, so nothing was edited",
    "unlike_aspect": "source and target have unlike proportions",
}
"""Every reason for which ingestion quarantines a row, with its meaning."""

MAY_PASS = ("http_error", "bad_response", "timed_out", "unreachable")
"""Reasons of URLs that a later run retries."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "PSD"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x0a", "JPEGXL"),
    (b"\0\0\0\x0cJXL ", "JPEGXL"),
    (b"%!PS", "EPS"),
    (b"<svg", "SVG"),
)
_ISO_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"avif": "AVIF",
    b"avis": "AVIF",
}
_OTHER_FILES: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"%pdf", "a PDF document"),
    (b"pk\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"{", "JSON or other text"),
    (b"<", "XML or other markup"),
)
_LFS = b"version https://git-lfs.github.com/spec"


class Limits(Protocol):
    """What is taken; see the fields of ``IngestConfig``, which has them."""

    @property
    def formats(self) -> tuple[str, ...]: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def min_side(self) -> int: ...
    @property
    def max_aspect(self) -> float: ...


class ImageError(ValueError):
    """A file that is not taken. ``reason`` is a key of :data:`REASONS`, ``detail`` says what and how much."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple:
        return type(self), (self.reason, self.detail)


def sniff_format(data: bytes) -> str | None:
    """The image format by its first bytes ("JPEG", "PNG", "WEBP", "HEIC" ...); None if it is none known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12])
    if data[:5] == b"<?xml" and b"<svg" in data[:2048]:
        return "SVG"
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None)


def decode_image(data: bytes, limits: Limits) -> Image.Image:
    """Decode one file's bytes to an RGB picture, 8 bits a channel, without metadata: as everything sees it.

    Turned upright, in sRGB over white (see :func:`to_rgb`); of an animation the first frame. Size limits are
    judged from the header, before decompression.

    Raises:
        ImageError: with one of :data:`REASONS`; no other exception, whatever the bytes.
    """
    kind = check_bytes(data, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: the limit below is ours
            picture = Image.open(io.BytesIO(data), formats=[kind])
            _check_size(picture.size, limits)
            load(picture)
            if is_truncated(data, kind):
                raise ImageError("truncated", f"{kind} of {len(data)} bytes has no end marker")
            return _normalised(picture)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("decompression_bomb", str(error)) from error
    except Exception as error:  # a decoder may raise anything on hostile bytes
        raise _decoder_error(error, data, kind) from error


def check_bytes(data: bytes, limits: Limits) -> str:
    """The format of the bytes; ImageError if they are refused before any decoding."""
    if not data:
        raise ImageError("empty_file", "0 bytes")
    if len(data) > limits.max_bytes:
        raise ImageError("too_large", f"more than {limits.max_bytes} bytes")
    kind = sniff_format(data)
    if kind is None:
        raise _not_an_image(data)
    if kind not in limits.formats:
        raise ImageError("unsupported_format", f"{kind}; convert it to one of {', '.join(limits.formats)}")
    return kind


def _not_an_image(data: bytes) -> ImageError:
    if not data.strip(b"\0"):
        return ImageError("zero_filled", f"all {len(data)} bytes are NUL; fetch the file again")
    if data.startswith(_LFS):
        return ImageError("lfs_pointer", "run 'git lfs pull' where the folder comes from")
    start = data[:64].lstrip().lower()
    other = next((name for magic, name in _OTHER_FILES if start.startswith(magic)), None)
    return ImageError("not_an_image", other or f"starts with {data[:8]!r}")


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    short, long = min(size), max(size)
    if width * height > limits.max_pixels:
        raise ImageError("decompression_bomb", f"{width}x{height} is more than {limits.max_pixels} pixels")
    if short < limits.min_side:
        raise ImageError("too_small", f"{width}x{height}, shorter side below {limits.min_side}")
    if long > limits.max_aspect * short:
        raise ImageError("extreme_aspect", f"{width}x{height} is longer than {limits.max_aspect:g}:1")


def _decoder_error(error: Exception, data: bytes, kind: str) -> ImageError:
    text = " ".join(f"{type(error).__name__} {error}".split())[:200]
    if isinstance(error, MemoryError) or "Decompressed data too large" in text:
        return ImageError("decompression_bomb", text)
    if is_truncated(data, kind):
        return ImageError("truncated", f"{kind} ends after {len(data)} bytes")
    return ImageError("corrupt", f"{kind}: {text}")


def _normalised(picture: Image.Image) -> Image.Image:
    """The loaded picture upright, in RGB, and without metadata that would be applied once more."""
    made = to_rgb(upright(picture))
    made = made.copy() if made.readonly else made
    made.info = {}
    return made


# Truncation, read from the container and not from a decoder's message. Some decoders fill up with grey
# instead of failing, so this is checked after a successful decode too.


def is_truncated(data: bytes, kind: str) -> bool:
    """Whether the container of a JPEG, PNG or WebP ends before it should; False for other formats."""
    check = {"JPEG": _jpeg_ends_early, "PNG": _png_ends_early, "WEBP": _webp_ends_early}.get(kind)
    return check(data) if check else False


def _jpeg_ends_early(data: bytes) -> bool:
    scan = _jpeg_scan(data)
    return scan is None or data.rfind(b"\xff\xd9", scan) < 0  # from its end: most end there


def _jpeg_scan(data: bytes) -> int | None:
    """Offset of the first scan, past metadata (thumbnails have end markers of their own); None: cut."""
    offset = 2
    while offset + 4 <= len(data):
        if data[offset] != 0xFF:
            return offset  # damaged, not cut: let the decoder say so
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker == 0xDA:
            return offset
        offset += 1 if marker == 0xFF else 2 + length
    return None


def _png_ends_early(data: bytes) -> bool:
    offset = 8
    while offset + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[offset : offset + 8])
        offset += 12 + length
        if kind == b"IEND":
            return False
    return True


def _webp_ends_early(data: bytes) -> bool:
    return len(data) < 12 or len(data) < 8 + int.from_bytes(data[4:8], "little")
