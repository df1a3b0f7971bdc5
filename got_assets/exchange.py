"""Data sets in the released form: other people's chains into the project's storage, our own out of it.

Images and pairs are ingested first: `got run`. Imported chains are used by `GOT_ANNOTATOR=imported got run`.

Belongs here: which stored tables are read. Not here: what is done with them (`got_core.exchange`), arguments
and what is printed (`got_assets.cli`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from got_assets.project import Project
from got_core.annotate import schemas
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, Columns, polars_schema
from got_core.exchange.config import EditMapping, PairMapping, T2IMapping, read_mapping
from got_core.exchange.parts import Progress

M = TypeVar("M", T2IMapping, EditMapping, PairMapping)


def import_t2i(
    project: Project, files: Sequence[str], mapping: T2IMapping, progress: Progress | None = None
) -> dict[str, int]:
    """Import text-to-image chains, joined with the ingested images; numbers of rows, chains and refused."""
    from got_core.exchange.importer import image_keys

    raw = _named_sources(project, _stored(project, "raw_images", RAW_IMAGES))
    return _import(project, files, image_keys(raw, mapping.image_is), mapping, progress)


def import_edits(
    project: Project,
    files: Sequence[str],
    pairs: Path,
    mapping: EditMapping,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Import edit chains, joined by id with the ingested pairs; `pairs`: the table that `unpack` wrote."""
    from got_core.exchange.importer import pair_keys
    from got_core.exchange.pairs import read_pairs

    ingested = _stored(project, "edit_pairs", EDIT_PAIRS)
    keys = pair_keys(_named_sources(project, read_pairs(pairs)), ingested)
    return _import(project, files, keys, mapping, progress)


def unpack(project: Project, files: Sequence[str], folder: Path, mapping: PairMapping) -> dict[str, int]:
    """Write a local copy of edit pairs as picture files and the pair table that GOT_EDITS names."""
    from got_core.exchange.pairs import unpack_pairs

    options = _options(project, files)
    return unpack_pairs(files, folder, mapping, project.recipe.ingest, fs_options=options)


def export(project: Project, out: Path, *, edits: bool = False, everything: bool = False) -> int:
    """Write chains in the released form, with source and licence; how many. Raises ValueError, OSError.

    Accepted ones only, unless `everything`.
    """
    from got_core.exchange.export import released_edits, released_t2i, write_records

    if edits:
        chains = _chosen(project, "edit", schemas.EDIT_CHAINS, everything)
        records = released_edits(chains, _stored(project, "edit_pairs", EDIT_PAIRS))
    else:
        chains = _chosen(project, "t2i", schemas.T2I_CHAINS, everything)
        records = released_t2i(chains, _stored(project, "raw_images", RAW_IMAGES))
    write_records(records, out)
    return records.height


def export_coco(project: Project, out: Path, *, everything: bool = False) -> dict[str, int]:
    """Write boxes of text-to-image chains as a COCO detection file; numbers of what stands in it."""
    from got_core.exchange.coco import coco_boxes, write_coco

    chains = _chosen(project, "t2i", schemas.T2I_CHAINS, everything)
    document = coco_boxes(chains, _stored(project, "raw_images", RAW_IMAGES))
    write_coco(document, out)
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
    names = [name for name in project.storage.list(f"{asset}/") if name.endswith(".parquet")]
    if not names:
        raise FileNotFoundError(
            f"{project.storage.url} holds no {asset}: set GOT_RAW (and GOT_EDITS) and run `make run` first"
        )
    tables = (project.storage.read_table(name.removesuffix(".parquet")) for name in names)
    empty = pl.DataFrame(schema=polars_schema(columns))
    return pl.concat([empty, *(one.select(list(columns)) for one in tables)])


def _chosen(project: Project, kind: str, columns: Columns, everything: bool) -> pl.DataFrame:
    """Chains of all shards as reviewers corrected them, without what is on the takedown list: the accepted
    ones, or all good ones."""
    from got_core.curate.review import corrected, load_verdicts
    from got_core.curate.schemas import SELECTION
    from got_core.curate.takedown import removal_of

    chains = corrected(_stored(project, f"{kind}_chains", columns), load_verdicts(project.storage))
    removal = removal_of(project.storage)
    chains = chains.filter(~removal.concerns(chains))
    if everything:
        return chains
    selection = _stored(project, f"{kind}_selection", SELECTION)
    return chains.join(selection.filter("accepted"), on="chain_id", how="semi", maintain_order="left")
