"""Exports a shard at a time: into one file, or into a folder with a file for each shard.

    <folder>/images-00000.parquet        records of a shard, written whole or not at all
    <folder>/_parts/images-00000.json    what they were made from, written last: a part with it is finished

A part is made again where what it was made from has changed; the rest of a stopped export is kept. Nothing
but one shard's rows is in memory.

Belongs here: order of work and what is kept. Not here: which rows and columns (`export`, `coco`).
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import polars as pl

from got_core.exchange.export import FORMATS
from got_core.filesystems import local_path, open_filesystem
from got_core.local_files import write_local
from got_core.storage import Storage

PARTS = "_parts"
Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all)."""


class Exported(NamedTuple):
    """What an export in parts came to."""

    records: int
    """In all finished parts that were asked for."""
    made: list[str]
    """Shards whose part was written now; the others were there already."""
    damaged: dict[str, str]
    """Why a shard has no part, by its name."""


def export_parts(
    folder: Storage,
    kind: str,
    made_from: Mapping[str, str],
    make: Callable[[str], tuple[int, bytes]],
    ending: str,
    *,
    drop_others: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a file for each shard unless a finished one is there.

    `made_from`: by shard, anything that changes with its records. `make`: number and bytes of a shard's
    records; a ValueError or FileNotFoundError of it is the shard's, named in the result, and the next shard
    is made. `drop_others`: delete finished parts of this kind whose shard is not among these. Raises OSError
    where the folder or the store of the tables fails.
    """
    done = _finished(folder, kind)
    there = set(folder.list())
    if drop_others:
        for shard in sorted(done.keys() - made_from.keys()):
            _drop(folder, shard, done.pop(shard)["file"])
    result = Exported(0, [], {})
    for number, (shard, version) in enumerate(made_from.items(), start=1):
        part = done.get(shard, {})
        finished = part.get("made_from") == version and part["file"] == f"{shard}{ending}"
        if not finished or part["file"] not in there:
            part = _made(folder, kind, shard, version, make, ending, part, result)
        result = result._replace(records=result.records + part.get("records", 0))
        if progress:
            progress(number, len(made_from))
    return result


def export_file(url: str, shards: Sequence[str], frame_of: Callable[[str], pl.DataFrame], **fs: Any) -> int:
    """Write the records of all shards into one file, whole or not at all; how many.

    The format goes by the name's ending. Raises ValueError for another name, or what `frame_of` raises.
    """
    ending = next((one for one in FORMATS if url.endswith(one)), None)
    if ending is None:
        raise ValueError(
            f"{url} is not a name for records: need one of {', '.join(FORMATS)}, or a folder, with a slash "
            "at its end, which gets a file for each shard"
        )
    count = 0

    def fill(file: IO[bytes]) -> None:
        nonlocal count
        frames = (frame_of(shard) for shard in shards)
        for rows in _WRITERS[ending](file, frames):
            count += rows

    _whole(url, fill, fs)
    return count


def records_bytes(frame: pl.DataFrame, ending: str) -> bytes:
    """Records in one of FORMATS."""
    buffer = io.BytesIO()
    for _ in _WRITERS[ending](buffer, iter([frame])):
        pass
    return buffer.getvalue()


def _finished(folder: Storage, kind: str) -> dict[str, dict[str, Any]]:
    """Notes of finished parts by shard. One that is not readable counts as not there."""
    found: dict[str, dict[str, Any]] = {}
    for name, data in folder.read_many(folder.list(f"{PARTS}/")).items():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            note = json.loads(data)
            if note["kind"] == kind and note["file"] and note["made_from"]:
                found[Path(name).stem] = note
    return found


def _made(
    folder: Storage,
    kind: str,
    shard: str,
    version: str,
    make: Callable[[str], tuple[int, bytes]],
    ending: str,
    before: Mapping[str, Any],
    result: Exported,
) -> dict[str, Any]:
    """Note of a part that is written now; empty where its shard is damaged. What it replaces is deleted."""
    name = f"{shard}{ending}"
    try:
        records, data = make(shard)
    except (ValueError, FileNotFoundError) as error:
        result.damaged[shard] = str(error)
        if before:  # it holds what is no longer so, takedowns among it
            _drop(folder, shard, before["file"])
        return {}
    folder.write_bytes(name, data)
    note = {"kind": kind, "made_from": version, "file": name, "records": records}
    folder.write_json(f"{PARTS}/{shard}.json", note)
    if before and before["file"] != name:
        folder.delete(before["file"])
    result.made.append(shard)
    return note


def _drop(folder: Storage, shard: str, file: str) -> None:
    folder.delete(f"{PARTS}/{shard}.json")
    folder.delete(file)


def _whole(url: str, fill: Callable[[IO[bytes]], None], fs_options: dict[str, Any]) -> None:
    """Write a file under a temporary name first; on a store it is put there when it is complete."""
    if path := local_path(url):
        write_local(path, fill, exclusive=False)
        return
    fs, remote = open_filesystem(url, **fs_options)
    with tempfile.NamedTemporaryFile() as file:
        fill(file)  # type: ignore[arg-type]
        file.flush()
        fs.put_file(file.name, remote)


def _lines(file: IO[bytes], frames: Iterator[pl.DataFrame]) -> Iterator[int]:
    for frame in frames:
        frame.write_ndjson(file)
        yield frame.height


def _list(file: IO[bytes], frames: Iterator[pl.DataFrame]) -> Iterator[int]:
    between = b"[\n"
    for frame in frames:
        for row in frame.iter_rows(named=True):
            file.write(between + json.dumps(row, ensure_ascii=False).encode())
            between = b",\n"
        yield frame.height
    file.write(b"[]\n" if between == b"[\n" else b"\n]\n")


def _table(file: IO[bytes], frames: Iterator[pl.DataFrame]) -> Iterator[int]:
    import pyarrow.parquet as pq

    writer = None
    try:
        for frame in frames:
            rows = frame.to_arrow()
            writer = writer or pq.ParquetWriter(file, rows.schema, compression="zstd")
            writer.write_table(rows.cast(writer.schema))
            yield frame.height
    finally:
        if writer is not None:
            writer.close()


_WRITERS: dict[str, Callable[[IO[bytes], Iterator[pl.DataFrame]], Iterator[int]]] = {
    ".jsonl": _lines,
    ".json": _list,
    ".parquet": _table,
}
