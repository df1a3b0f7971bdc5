"""Importing whole files: in parts, each written once, so that a stopped import goes on where it was.

    imported/<name>/plan.json            what is imported, from which files
    imported/<name>/chains/00000         chains of the first batch, and so on
    imported/<name>/refused/00000        its refused records
    imported/<name>/done.json            how many there are: only a finished import is used

Belongs here: order of work and what is kept. Not here: what becomes of a record (`importer`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from got_core.annotate.schemas import EDIT_CHAINS, ORIGIN, T2I_CHAINS
from got_core.corpus.schemas import Columns, frame_of, polars_schema
from got_core.exchange.config import AnyMapping, T2IMapping
from got_core.exchange.importer import import_batch
from got_core.exchange.records import Record, check_columns, read_records
from got_core.exchange.schemas import REFUSED
from got_core.filesystems import open_filesystem
from got_core.frame_hash import content_hash
from got_core.storage import Storage, local_path
from got_core.table_columns import read_columns

BATCH = 20_000
"""Records of a part."""
FOLDER, DONE = "imported", "done.json"
Progress = Callable[[int, int], None]


def import_files(
    storage: Storage,
    urls: Sequence[str],
    keys: pl.DataFrame,
    mapping: AnyMapping,
    *,
    batch: int = BATCH,
    fs_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Import the files of a data set; returns rows, chains and refused as numbers, rows = chains + refused.

    Parts that are there already are not made again; other files, another mapping or other images at hand
    begin anew. `progress` is called with (rows done, rows done so far in all). Raises ValueError for a file
    without the mapped columns, naming them, before anything is written.
    """
    for url in urls:
        check_columns(url, mapping.required, type(mapping).__name__, fs_options)
    folder = f"{FOLDER}/{mapping.name}"
    plan = {"mapping": asdict(mapping), "files": _stamps(urls, fs_options), "keys": content_hash(keys)}
    digest = _start(storage, folder, plan, batch)
    counts = {"rows": 0, "chains": 0, "refused": 0}
    seen: set[int] = set()
    for number, records in enumerate(_batches(urls, mapping, batch, fs_options)):
        chains, refused = _part(storage, folder, number, records, keys, mapping, seen)
        counts["rows"] += len(records)
        counts["chains"] += chains
        counts["refused"] += refused
        if progress:
            progress(counts["rows"], counts["rows"])
    kind = "t2i" if isinstance(mapping, T2IMapping) else "edit"
    storage.write_json(f"{folder}/{DONE}", {"id": digest, "kind": kind, **counts})
    return counts


def finished_imports(storage: Storage) -> dict[str, dict[str, Any]]:
    """Name of each finished import, with its id (which changes with files, mapping and images at hand), kind
    (t2i or edit) and numbers of rows, chains and refused."""
    found = (name for name in storage.list(f"{FOLDER}/") if name.endswith(f"/{DONE}"))
    return {name.split("/")[1]: storage.read_json(name) for name in found}


def shard_chains(storage: Storage, ingested: pl.DataFrame) -> pl.DataFrame:
    """T2I_CHAINS or EDIT_CHAINS of a shard, from all finished imports of that kind.

    Good images (RAW_IMAGES) or pairs (EDIT_PAIRS) without a chain have a row that says so. Raises ValueError
    where nothing of that kind was imported.
    """
    kind, item = ("edit", "pair_id") if "pair_id" in ingested.columns else ("t2i", "image_id")
    names = [name for name, one in finished_imports(storage).items() if one["kind"] == kind]
    if not names:
        raise ValueError(
            f"GOT_ANNOTATOR=imported, but no {kind} chains were imported into {storage.url}; "
            "import some: got data import --help"
        )
    found = pl.concat(imported_chains(storage, name, ingested) for name in names)
    chains = found.unique("chain_id", keep="first", maintain_order=True)
    good = ingested.filter(pl.col("error").is_null())
    rest = good.select(item, *ORIGIN).join(chains, on=item, how="anti", maintain_order="left")
    error = f"not_imported: none of {', '.join(names)} has a chain for it"
    missing = [{**row, "error": error, "reason": "not_imported"} for row in rest.iter_rows(named=True)]
    columns = EDIT_CHAINS if kind == "edit" else T2I_CHAINS
    lost = frame_of([{name: row.get(name) for name in columns} for row in missing], columns)
    return pl.concat([chains, lost]).sort(item, "chain_id", maintain_order=True)


def imported_chains(
    storage: Storage, name: str, ingested: pl.DataFrame, shard_columns: Columns | None = None
) -> pl.DataFrame:
    """Imported chains of one shard: those of the images or pairs of its ingested table, in imported order.

    `shard_columns`: the columns that are wanted (default all that an import gives). Raises FileNotFoundError
    where nothing of that name was imported.
    """
    item = "pair_id" if "pair_id" in ingested.columns else "image_id"
    columns = EDIT_CHAINS if item == "pair_id" else T2I_CHAINS
    parts = _parts(storage, f"{FOLDER}/{name}/chains")
    if not parts:
        raise FileNotFoundError(f"{storage.url_of(f'{FOLDER}/{name}')} holds no import; run the import first")
    wanted = ingested.filter(pl.col("error").is_null()).select(item).unique().lazy()
    found = [
        storage.scan_table(part).join(wanted, on=item, how="semi", maintain_order="left").collect()
        for part in parts
    ]
    frame = pl.concat([pl.DataFrame(schema=polars_schema(columns)), *found])
    return frame.select(list(shard_columns or columns))


def refused_records(storage: Storage, name: str) -> pl.DataFrame:
    """All REFUSED records of an import."""
    tables = [storage.read_table(part) for part in _parts(storage, f"{FOLDER}/{name}/refused")]
    return pl.concat([pl.DataFrame(schema=polars_schema(REFUSED)), *tables])


def _start(storage: Storage, folder: str, plan: dict[str, Any], batch: int) -> str:
    """Store the plan and delete the parts of another one; returns its id."""
    digest = hashlib.sha256(json.dumps([plan, batch], sort_keys=True).encode()).hexdigest()
    name = f"{folder}/plan.json"
    if not storage.exists(name) or storage.read_json(name)["id"] != digest:
        storage.delete(folder)
        storage.write_json(name, {**plan, "id": digest})
    return digest


def _part(
    storage: Storage,
    folder: str,
    number: int,
    records: list[Record],
    keys: pl.DataFrame,
    mapping: AnyMapping,
    seen: set[int],
) -> tuple[int, int]:
    """Numbers of chains and refused records of one part, made unless it is there."""
    chains, refused = f"{folder}/chains/{number:05d}", f"{folder}/refused/{number:05d}"
    if storage.exists(f"{chains}.parquet"):
        ids = read_columns(storage, chains, ["chain_id"])["chain_id"]
        seen.update(int(one, 16) for one in ids)
        return len(ids), len(records) - len(ids)
    made = import_batch(records, keys, mapping, seen)
    storage.write_table(refused, made.refused)
    storage.write_table(chains, made.chains)  # last: a part with chains is finished
    return made.chains.height, made.refused.height


def _batches(
    urls: Sequence[str], mapping: AnyMapping, size: int, fs_options: dict[str, Any] | None
) -> Iterator[list[Record]]:
    records = itertools.chain.from_iterable(read_records(url, mapping.columns, fs_options) for url in urls)
    while batch := list(itertools.islice(records, size)):
        yield batch


def chain_parts(storage: Storage, name: str) -> list[str]:
    """Tables of the chains of an import, in imported order."""
    return _parts(storage, f"{FOLDER}/{name}/chains")


def _parts(storage: Storage, folder: str) -> list[str]:
    return [name.removesuffix(".parquet") for name in storage.list(f"{folder}/") if name.endswith(".parquet")]


def _stamps(urls: Sequence[str], fs_options: dict[str, Any] | None) -> list[list[Any]]:
    """Name, size and time of change of each file."""
    stamps = []
    for url in urls:
        fs, path = open_filesystem(str(local_path(url) or url), **(fs_options or {}))
        info = fs.info(path)
        changed = next((info[key] for key in ("LastModified", "mtime", "created") if info.get(key)), None)
        stamps.append([url, info.get("size"), str(changed)])
    return stamps
