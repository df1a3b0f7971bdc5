"""A sample's latents as one run of bytes, which a single ranged read brings.

A block is entries one after the other: ``clean``, of edits ``reference``, with spatial guidance ``spatial``
(each little-endian numbers), of edits ``source`` (a PNG), and last ``row``, JSON which says what the others
are, and in 8 bytes its own length. The last two are padded to ALIGNMENT bytes, so that numbers in a mapped
file are read in place.
Belongs here: these bytes. Not here: which file they are in (``parts``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ALIGNMENT = 64
DTYPES = {"float16": ("<f2", "F16"), "float32": ("<f4", "F32")}
"""Number formats: NumPy's name, and that of safetensors."""
_LATENTS = ("clean", "reference", "spatial")
_LENGTH = 8
"""Bytes of the number that a block ends with."""


class DamagedBlockError(ValueError):
    """Bytes that are not the block which their index speaks of."""


class LatentOverflowError(ValueError):
    """Latents that are no numbers in the format that they are to be stored in."""


@dataclass(frozen=True, kw_only=True)
class StoredLatents:
    """What is stored of a sample. Latents are (C, h, w), unscaled."""

    sample_id: str
    digest: str
    """Of the manifest's row that it was made of (see ``parts.row_digest``)."""
    chain: str
    """The chain in model form, its boxes moved to where they are in the training picture."""
    time_ids: tuple[int, ...]
    """SDXL's size numbers: original height and width, top and left of the crop, height and width."""
    clean: np.ndarray
    """Of the picture to draw."""
    reference: np.ndarray | None = None
    """Of the picture to edit (Gr); None for text to image, whose Gr is that of a black one."""
    spatial: np.ndarray | None = None
    """Mean of the boxes' canvases (Gs); None without spatial guidance."""
    source: np.ndarray | None = None
    """The picture to edit as the language model is shown it, uint8 (S, S, 3)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the training picture."""
        return self.time_ids[4], self.time_ids[5]


class Entry(NamedTuple):
    """One tensor of a block, in the terms of safetensors."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def pack(sample: StoredLatents, number_format: str) -> list[Entry]:
    """The entries of a sample's block in their order, with padding; the last one is ``row``.

    Raises LatentOverflowError where a latent is not finite in the format.
    """
    entries = [
        _latent_entry(sample, name, number_format) for name in _LATENTS if getattr(sample, name) is not None
    ]
    if sample.source is not None:
        data = _padded(_png(sample.source), b"\0")
        entries.append(Entry("source", "U8", (len(data),), data))
    described = {name: [list(shape), dtype, len(data)] for name, dtype, shape, data in entries}
    row = {
        "sample_id": sample.sample_id,
        "digest": sample.digest,
        "chain": sample.chain,
        "time_ids": list(sample.time_ids),
        "entries": described,
    }
    text = json.dumps(row, ensure_ascii=False).encode()
    text += b" " * (-(len(text) + _LENGTH) % ALIGNMENT)
    data = text + (len(text) + _LENGTH).to_bytes(_LENGTH, "little")
    return [*entries, Entry("row", "U8", (len(data),), data)]


def unpack(block: np.ndarray) -> StoredLatents:
    """The sample of a block, uint8 (n,); its latents are views into it. Raises DamagedBlockError."""
    try:
        row = _row(block)
        found = _arrays(block, row["entries"])
        source = found.pop("source", None)
        return StoredLatents(
            sample_id=row["sample_id"],
            digest=row["digest"],
            chain=row["chain"],
            time_ids=tuple(row["time_ids"]),
            clean=found["clean"],
            reference=found.get("reference"),
            spatial=found.get("spatial"),
            source=None if source is None else _pixels(source),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DamagedBlockError(f"{type(error).__name__}: {error}") from error


def entries_of(block: np.ndarray) -> list[Entry]:
    """The entries of a block, uint8 (n,), as :func:`pack` made them. Raises DamagedBlockError."""
    try:
        described, start, entries = _row(block)["entries"], 0, []
        for name, (shape, dtype, size) in described.items():
            entries.append(Entry(name, dtype, tuple(shape), block[start : start + size].tobytes()))
            start += size
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedBlockError(f"{type(error).__name__}: {error}") from error
    rest = block[start:].tobytes()
    return [*entries, Entry("row", "U8", (len(rest),), rest)]


def _row(block: np.ndarray) -> dict[str, Any]:
    size = int.from_bytes(block[-_LENGTH:].tobytes(), "little")
    if not _LENGTH < size <= len(block):
        raise ValueError("the bytes do not end with a length")
    return json.loads(block[-size:-_LENGTH].tobytes())


def _arrays(block: np.ndarray, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
    numbers = {name: dtype for dtype, name in DTYPES.values()} | {"U8": "u1"}
    found, start = {}, 0
    for name, (shape, dtype, size) in described.items():
        found[name] = block[start : start + size].view(numbers[dtype]).reshape(shape)
        start += size
    return found


def _latent_entry(sample: StoredLatents, name: str, number_format: str) -> Entry:
    dtype, stored = DTYPES[number_format]
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(getattr(sample, name), dtype=np.float32).astype(dtype)
    if not np.isfinite(values).all():
        raise LatentOverflowError(
            f"sample {sample.sample_id}: its latents ({name}) are not finite as {number_format}: set the "
            "stage's latents to float32; if they are not then either, look at the autoencoder"
        )
    return Entry(name, stored, values.shape, values.tobytes())


def _padded(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % ALIGNMENT)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _pixels(png: np.ndarray) -> np.ndarray:
    with Image.open(io.BytesIO(png.tobytes()), formats=["PNG"]) as image:
        return np.asarray(image)
