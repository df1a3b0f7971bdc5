"""A local copy of edit pairs (parquet with picture bytes, as OmniEdit's) as files and a pair table.

The files are named by their content and the table is one that ingestion reads; beside ingestion's columns it
holds each pair's key, so that released chains can be joined by id. Belongs here: unpacking. Not here: judging
the pictures, which ingestion does.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError, check_bytes
from got_core.corpus.schemas import Columns, frame_of
from got_core.exchange.config import PairMapping
from got_core.exchange.records import (
    Record,
    RecordError,
    RecordGroup,
    check_columns,
    read_groups,
    record_text,
)
from got_core.exchange.schemas import PAIRS, REFUSED
from got_core.filesystems import open_filesystem

TABLE, REFUSED_TABLE = "pairs.parquet", "refused.parquet"
_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}

PAIR_TABLE: Columns = {
    "source": (pl.String(), "source image, relative to the table's folder"),
    "target": (pl.String(), "target image, relative to the table's folder"),
    "instruction": (pl.String(), "the instruction as given"),
    "licence": (pl.String(), "licence of the pair; null = not stated"),
    "source_name": (pl.String(), "where the pair comes from"),
    "key": PAIRS["key"],
    "pair_id": PAIRS["pair_id"],
    "instructions": PAIRS["instructions"],
}
"""What `unpack_pairs` writes: ingestion's columns first, the others for joining."""


class _Image(NamedTuple):
    sha256: str
    path: str


def unpack_pairs(
    urls: Sequence[str],
    folder: Path,
    mapping: PairMapping | None = None,
    config: IngestConfig | None = None,
    *,
    fs_options: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write the pictures of a local copy below `folder`, then its pair table; returns rows, pairs, refused.

    One picture is in memory at a time, but for the table and what `read_groups` needs of one column of one
    row group. Files that are there already are not written again, so a stopped run goes on cheaply. A row
    without an id, an instruction or picture bytes is refused, with its reason.
    """
    mapping, config = mapping or PairMapping(), config or IngestConfig()
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for url in urls:
        check_columns(url, mapping.columns, "PairMapping", fs_options)
        for group in read_groups(url, mapping.columns, mapping.pictures, fs_options):
            for made in _unpack_group(group, folder, mapping, config):
                (refused if "error" in made else rows).append(made)
                if progress:
                    progress(len(rows) + len(refused), len(rows) + len(refused))
    _write_frame(frame_of(refused, REFUSED), folder / REFUSED_TABLE)
    _write_frame(frame_of(rows, PAIR_TABLE), folder / TABLE)
    return {"rows": len(rows) + len(refused), "pairs": len(rows), "refused": len(refused)}


def read_pairs(table: str | Path, **fs_options: Any) -> pl.DataFrame:
    """PAIRS of a table that `unpack_pairs` wrote, a path or URL.

    Raises FileNotFoundError, or ValueError if it is another one.
    """
    fs, path = open_filesystem(str(table), **fs_options)
    try:
        frame = pl.read_parquet(io.BytesIO(fs.cat_file(path)))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{table} does not exist") from error
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{table} is not a readable parquet file: {error}") from error
    missing = sorted(set(PAIR_TABLE) - set(frame.columns))
    if missing:
        raise ValueError(f"{table} has no column {', '.join(missing)}: it was not made by unpacking pairs")
    named = frame.select(
        "key",
        "pair_id",
        "instruction",
        "instructions",
        "licence",
        source_path="source",
        target_path="target",
        source="source_name",
    )
    return named.select(list(PAIRS))


def _unpack_group(
    group: RecordGroup, folder: Path, mapping: PairMapping, config: IngestConfig
) -> list[dict[str, Any]]:
    """A row of PAIR_TABLE for each record, or one of REFUSED."""
    made = [_key_and_wordings(record, mapping) for record in group.records]
    for side, column in zip(("source", "target"), mapping.pictures, strict=True):
        for one, value in zip(made, group.values(column), strict=True):
            if "error" not in one:
                try:
                    one[side] = _stored(value, column, folder, config)
                except (RecordError, ImageError) as error:
                    one |= _refusal(error)
    return [_refused_row(one) if "error" in one else _pair_row(one, mapping) for one in made]


def _key_and_wordings(record: Record, mapping: PairMapping) -> dict[str, Any]:
    """Key and wordings of a record, or why it has none; the record itself goes along."""
    found: dict[str, Any] = {"of": record}
    try:
        if record.values is None:
            reason, _, detail = (record.error or "").partition(": ")
            raise RecordError(reason, detail)
        key = found["key"] = record.values.get(mapping.key)
        if not isinstance(key, str | int) or not str(key).strip():
            raise RecordError("no_value", f"column {mapping.key} holds no id")
        found["wordings"] = _wordings(record.values.get(mapping.instructions), mapping.instructions)
    except RecordError as error:
        found |= _refusal(error)
    return found


def _refusal(error: RecordError | ImageError) -> dict[str, Any]:
    return {"error": str(error), "reason": error.reason}


def _refused_row(one: dict[str, Any]) -> dict[str, Any]:
    record: Record = one["of"]
    raw = record.raw if record.values is None else record_text(record.values)
    key = one.get("key")
    outcome = {"error": one["error"], "reason": one["reason"], "record": raw}
    return {
        "file": record.file,
        "row": record.row,
        "key": str(key) if isinstance(key, str | int) else None,
        **outcome,
    }


def _pair_row(one: dict[str, Any], mapping: PairMapping) -> dict[str, Any]:
    source, target, wordings = one["source"], one["target"], one["wordings"]
    named = f"{source.sha256}|{target.sha256}|{wordings[0]}"
    return {
        "source": source.path,
        "target": target.path,
        "instruction": wordings[0],
        "licence": mapping.licence,
        "source_name": mapping.source_name,
        "key": str(one["key"]).strip(),
        "pair_id": hashlib.sha256(named.encode()).hexdigest(),
        "instructions": wordings,
    }


def _wordings(value: Any, column: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise RecordError("no_value", f"column {column} holds no instruction")
    found = [one.strip() for one in texts if isinstance(one, str) and one.strip()]
    if not found:
        raise RecordError("no_value", f"column {column} holds no instruction")
    return list(dict.fromkeys(found))


def _stored(value: Any, column: str, folder: Path, config: IngestConfig) -> _Image:
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise RecordError("no_value", f"column {column} holds no picture bytes")
    try:
        kind = check_bytes(data, config)
    except ImageError as error:
        raise ImageError(error.reason, f"column {column}: {error.detail}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    # Named by content: nothing in a released file decides where anything is written.
    path = f"{sha256[:2]}/{sha256}.{_ENDINGS.get(kind, 'img')}"
    if not (folder / path).exists():
        _write(folder / path, data)
    return _Image(sha256, path)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        frame.write_parquet(partial, compression="zstd")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
