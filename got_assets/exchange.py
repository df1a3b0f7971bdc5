"""Data sets in the released form: other people's chains into the project's storage, our own out of it.

Images and pairs are ingested first: `got run`. Imported chains are used by `GOT_ANNOTATOR=imported got run`.

Belongs here: which stored tables are read. Not here: what is done with them (`got_core.exchange`), arguments
and what is printed (`got_assets.cli`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from got_assets.project import Project
from got_core.annotate import schemas
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, Columns, polars_schema
from got_core.digests import digest
from got_core.exchange.config import EditMapping, PairMapping, T2IMapping, read_mapping
from got_core.exchange.parts import Progress
from got_core.frame_hash import content_hash
from got_core.storage import Storage
from got_core.table_columns import read_columns

if TYPE_CHECKING:
    from got_core.exchange.export_parts import Exported

M = TypeVar("M", T2IMapping, EditMapping, PairMapping)


def import_t2i(
    project: Project, files: Sequence[str], mapping: T2IMapping, progress: Progress | None = None
) -> dict[str, int]:
    """Import text-to-image chains, joined with the ingested images; numbers of rows, chains and refused."""
    from got_core.exchange.importer import image_keys

    needed = ("image_id", "path", "paths", "source", "licence", "error")
    columns = {name: RAW_IMAGES[name] for name in needed}
    raw = _named_sources(project, _stored(project, "raw_images", columns))
    return _import(project, files, image_keys(raw, mapping.image_is), mapping, progress)


def import_edits(
    project: Project,
    files: Sequence[str],
    pairs: str,
    mapping: EditMapping,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Import edit chains, joined by id with the ingested pairs; `pairs`: the table that `unpack` wrote."""
    from got_core.exchange.importer import pair_keys
    from got_core.exchange.pairs import read_pairs

    ingested = _stored(project, "edit_pairs", {name: EDIT_PAIRS[name] for name in ("pair_id", "error")})
    keys = pair_keys(
        _named_sources(project, read_pairs(pairs, **project.settings.fs_options(pairs))), ingested
    )
    return _import(project, files, keys, mapping, progress)


def unpack(project: Project, files: Sequence[str], folder: Path, mapping: PairMapping) -> dict[str, int]:
    """Write a local copy of edit pairs as picture files and the pair table that GOT_EDITS names."""
    from got_core.exchange.pairs import unpack_pairs

    options = _options(project, files)
    return unpack_pairs(files, folder, mapping, project.recipe.ingest, fs_options=options)


def export(project: Project, out: str, chosen: Chosen, shards: Sequence[str] = ()) -> int:
    """Write chains in the released form, with source and licence, into one file; how many.

    `shards`: only these. Raises ValueError, FileNotFoundError, OSError.
    """
    from got_core.exchange.export_parts import export_file

    rows = _Rows(project, chosen)
    options = project.settings.fs_options(out)
    return export_file(out, rows.shards(shards), rows.records, **options)


def export_in_parts(
    project: Project,
    folder: str,
    chosen: Chosen,
    ending: str,
    *,
    shards: Sequence[str] = (),
    progress: Progress | None = None,
) -> Exported:
    """Write a file for each shard into a folder, or for these shards only; those that are there are kept."""
    from got_core.exchange.coco import coco_boxes, coco_bytes
    from got_core.exchange.export_parts import export_parts, records_bytes

    rows = _Rows(project, chosen)

    def make(shard: str) -> tuple[int, bytes]:
        if chosen.coco:
            document = coco_boxes(rows.chains(shard), rows.ingested(shard))
            return len(document["images"]), coco_bytes(document)
        records = rows.records(shard)
        return records.height, records_bytes(records, ending)

    target = Storage(folder, **project.settings.fs_options(folder))
    made_from = rows.made_from(rows.shards(shards), ending)
    return export_parts(
        target, chosen.kind, made_from, make, ending, drop_others=not shards, progress=progress
    )


def export_coco(project: Project, out: str, chosen: Chosen, shards: Sequence[str] = ()) -> dict[str, int]:
    """Write boxes of text-to-image chains as one COCO detection file; numbers of what stands in it."""
    from got_core.exchange.coco import coco_boxes, write_coco

    rows = _Rows(project, chosen)
    names = rows.shards(shards)
    document = coco_boxes(pl.concat(map(rows.chains, names)), pl.concat(map(rows.ingested, names)))
    write_coco(document, out, **project.settings.fs_options(out))
    return {name: len(document[name]) for name in ("images", "annotations", "categories")}


def _import(
    project: Project,
    files: Sequence[str],
    keys: pl.DataFrame,
    mapping: T2IMapping | EditMapping,
    progress: Progress | None,
) -> dict[str, int]:
    from got_core.exchange.parts import import_files

    options = _options(project, files)
    return import_files(project.storage, files, keys, mapping, fs_options=options, progress=progress)


def _options(project: Project, files: Sequence[str]) -> dict[str, Any]:
    """fsspec options of the files, some of which may lie on S3; local ones need none."""
    return {name: value for url in files for name, value in project.settings.fs_options(url).items()}


def _named_sources(project: Project, table: pl.DataFrame) -> pl.DataFrame:
    """The table without ingestion's source for what nobody named: the data set's name says more."""
    unnamed = pl.col("source") == project.recipe.ingest.source
    return table.with_columns(source=pl.when(~unnamed).then("source"))


def mapping_of(usual: M, file: Path | None, licence: str | None = None) -> M:
    """The usual column mapping, or the one of a JSON file, which may also give the name.

    A `licence` goes before the file's. Raises ValueError for a file that is no mapping.
    """
    given = {"name": usual.name} if isinstance(usual, T2IMapping | EditMapping) else {}
    found = usual if file is None else read_mapping(type(usual), file, given)
    return replace(found, licence=licence) if licence else found


def _stored(project: Project, asset: str, columns: Columns) -> pl.DataFrame:
    """All shards' tables of an asset. Raises FileNotFoundError if there is none."""
    names = _tables(project.storage, asset)
    tables = (read_columns(project.storage, name, list(columns)) for name in names)
    return pl.concat([pl.DataFrame(schema=polars_schema(columns)), *tables])


def _tables(storage: Storage, asset: str) -> list[str]:
    """Names of the shards' tables of an asset. Raises FileNotFoundError if there is none."""
    names = [name.removesuffix(".parquet") for name in storage.list(f"{asset}/") if name.endswith(".parquet")]
    if not names:
        raise FileNotFoundError(
            f"{storage.url} holds no {asset}: set GOT_RAW (and GOT_EDITS) and run `make run` first"
        )
    return names


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which chains are exported, and as what."""

    edits: bool = False
    coco: bool = False
    everything: bool = False
    """All good chains, not only accepted ones."""

    @property
    def kind(self) -> str:
        """Name of this set of chains: parts of another one are not touched."""
        return "edit" if self.edits else "boxes" if self.coco else "t2i"


class _Rows:
    """Chains as reviewers corrected them, without what is on the takedown list, a shard at a time."""

    def __init__(self, project: Project, chosen: Chosen) -> None:
        from got_core.curate.review import load_verdicts
        from got_core.curate.takedown import removal_of

        self._storage, self._chosen = project.storage, chosen
        self._kind = "edit" if chosen.edits else "t2i"
        self._origin = "edit_pairs" if chosen.edits else "raw_images"
        self._verdicts, self._removal = load_verdicts(project.storage), removal_of(project.storage)

    @property
    def _assets(self) -> tuple[str, ...]:
        return (
            f"{self._kind}_chains",
            self._origin,
            *(() if self._chosen.everything else (f"{self._kind}_selection",)),
        )

    def shards(self, wanted: Sequence[str]) -> list[str]:
        """Names of the shards that have been made, or of those wanted. Raises ValueError for others,
        FileNotFoundError if there is none."""
        asset = self._assets[0] if self._chosen.everything else self._assets[-1]
        names = _tables(self._storage, asset)
        there = [name.rpartition("/")[2] for name in names]
        unknown = sorted(set(wanted) - set(there))
        if unknown:
            raise ValueError(
                f"no shard {', '.join(unknown)} among the {len(there)} of {asset}, which are "
                f"{there[0]} to {there[-1]}"
            )
        return sorted(set(wanted)) or there

    def made_from(self, shards: Sequence[str], ending: str) -> dict[str, str]:
        """By shard, what changes with its records: its tables, people's lists, and how they are written."""
        latest = content_hash(self._verdicts)
        lists = [ending, self._chosen.everything, latest, sorted(self._removal.items)]
        stamps = {name: one for asset in self._assets for name, one in self._storage.stamps(asset).items()}
        tables = {one: [stamps.get(f"{asset}/{one}.parquet") for asset in self._assets] for one in shards}
        common = digest(lists)
        return {shard: digest([common, tables[shard]]) for shard in shards}

    def ingested(self, shard: str) -> pl.DataFrame:
        """RAW_IMAGES or EDIT_PAIRS."""
        return self._storage.read_table(f"{self._origin}/{shard}")

    def chains(self, shard: str) -> pl.DataFrame:
        """T2I_CHAINS or EDIT_CHAINS that are chosen."""
        from got_core.curate.review import corrected

        columns = schemas.EDIT_CHAINS if self._chosen.edits else schemas.T2I_CHAINS
        chains = self._storage.read_table(f"{self._kind}_chains/{shard}").select(list(columns))
        chains = corrected(chains, self._verdicts)
        chains = chains.filter(~self._removal.concerns(chains))
        if self._chosen.everything:
            return chains
        accepted = self._storage.read_table(f"{self._kind}_selection/{shard}").filter("accepted")
        return chains.join(accepted, on="chain_id", how="semi", maintain_order="left")

    def records(self, shard: str) -> pl.DataFrame:
        """Records in the released form."""
        from got_core.exchange.export import released_edits, released_t2i

        released = released_edits if self._chosen.edits else released_t2i
        return released(self.chains(shard), self.ingested(shard))
