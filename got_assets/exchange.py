"""Commands for data sets in the released form: other people's chains in, our own out.

    python -m got_assets.exchange t2i lahr/*.jsonl --name lahr --map lahr.json
    python -m got_assets.exchange unpack omniedit/*.parquet --to /data/omniedit --licence MIT
    python -m got_assets.exchange edits omniedit-got.jsonl --pairs /data/omniedit/pairs.parquet
    python -m got_assets.exchange refused lahr
    python -m got_assets.exchange export ours.jsonl
    python -m got_assets.exchange coco boxes.json

They work on the storage of the settings (GOT_RAW, GOT_EDITS, GOT_STORAGE), so images and pairs are ingested
first: `make run`. Imported chains are used by `GOT_ANNOTATOR=imported make run`.

Belongs here: arguments, and which stored tables are read. Not here: what is done with them
(`got_core.exchange`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import polars as pl

from got_assets.project import PROJECT, Project
from got_assets.summary import text_table
from got_core.annotate import schemas
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, Columns, polars_schema
from got_core.exchange.config import EditMapping, PairMapping, T2IMapping, read_mapping
from got_core.filesystems import StoreUnavailableError

M = TypeVar("M", T2IMapping, EditMapping, PairMapping)
Given = argparse.Namespace
SHOWN = 5
"""Refused records of each reason that are printed."""


def import_t2i(project: Project, given: Given) -> None:
    """Text-to-image chains, joined with the ingested images."""
    from got_core.exchange.importer import image_keys

    mapping = _mapping(T2IMapping(name=given.name), given)
    raw = _named_sources(project, _stored(project, "raw_images", RAW_IMAGES))
    _import(project, given.files, image_keys(raw, mapping.image_is), mapping)


def import_edits(project: Project, given: Given) -> None:
    """Edit chains, joined by id with the ingested pairs."""
    from got_core.exchange.importer import pair_keys
    from got_core.exchange.pairs import read_pairs

    mapping = _mapping(EditMapping(name=given.name), given)
    ingested = _stored(project, "edit_pairs", EDIT_PAIRS)
    pairs = _named_sources(project, read_pairs(given.pairs))
    _import(project, given.files, pair_keys(pairs, ingested), mapping)


def unpack(project: Project, given: Given) -> None:
    """A local copy of edit pairs to picture files and the pair table that GOT_EDITS names."""
    from got_core.exchange.pairs import TABLE, unpack_pairs

    mapping = _mapping(PairMapping(licence=given.licence), given)
    options = _options(project, given.files)
    counts = unpack_pairs(given.files, given.to, mapping, project.recipe.ingest, fs_options=options)
    print(_counted(counts))
    print(f"now set GOT_EDITS={given.to.absolute() / TABLE} and run `make run`")


def refused(project: Project, given: Given) -> None:
    """Which records of an import were not taken, and why."""
    from got_core.exchange.parts import refused_records

    frame = refused_records(project.storage, given.name)
    for (reason,), rows in frame.group_by("reason", maintain_order=True):
        print(f"{reason}: {rows.height}")
        for row in rows.head(SHOWN).iter_rows(named=True):
            print(f"  {row['file']}, row {row['row']}: {row['error']}")
    if frame.is_empty():
        print(f"no record of {given.name} was refused")


def export(project: Project, given: Given) -> None:
    """Chains in the released form, with source and licence."""
    from got_core.exchange.export import released_edits, released_t2i, write_records

    if given.edits:
        chains = _chosen(project, "edit", schemas.EDIT_CHAINS, given.all)
        records = released_edits(chains, _stored(project, "edit_pairs", EDIT_PAIRS))
    else:
        chains = _chosen(project, "t2i", schemas.T2I_CHAINS, given.all)
        records = released_t2i(chains, _stored(project, "raw_images", RAW_IMAGES))
    print(f"{records.height} records in {write_records(records, given.out)}")


def coco(project: Project, given: Given) -> None:
    """Boxes of text-to-image chains as a COCO detection file."""
    from got_core.exchange.coco import coco_boxes, write_coco

    chains = _chosen(project, "t2i", schemas.T2I_CHAINS, given.all)
    document = coco_boxes(chains, _stored(project, "raw_images", RAW_IMAGES))
    write_coco(document, given.out)
    print(_counted({name: len(document[name]) for name in ("images", "annotations", "categories")}))


def _import(
    project: Project, files: Sequence[str], keys: pl.DataFrame, mapping: T2IMapping | EditMapping
) -> None:
    from got_core.exchange.parts import import_files, refused_records

    options = _options(project, files)
    counts = import_files(project.storage, files, keys, mapping, fs_options=options, progress=_told)
    print(_counted(counts))
    reasons = refused_records(project.storage, mapping.name)["reason"].value_counts(sort=True)
    if counts["refused"]:
        print(text_table(["refused because", "records"], reasons.iter_rows()))
        print(f"look at them: python -m got_assets.exchange refused {mapping.name}")
    print("the next `GOT_ANNOTATOR=imported make run` uses them")


def _options(project: Project, files: Sequence[str]) -> dict[str, str]:
    """fsspec options of the files, some of which may lie on S3; local ones need none."""
    return {name: value for url in files for name, value in project.settings.fs_options(url).items()}


def _named_sources(project: Project, table: pl.DataFrame) -> pl.DataFrame:
    """The table without ingestion's source for what nobody named: the data set's name says more."""
    unnamed = pl.col("source") == project.recipe.ingest.source
    return table.with_columns(source=pl.when(~unnamed).then("source"))


def _mapping(usual: M, given: Given) -> M:
    """The column mapping of a JSON file, which may also give the name, or the usual one."""
    if given.map is None:
        return usual
    found = read_mapping(type(usual), given.map, {"name": given.name} if "name" in given else {})
    licence = getattr(given, "licence", None)
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


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _told(done: int, _: int) -> None:
    print(f"  {done} records", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m got_assets.exchange",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, work: Callable[[Project, Given], None]) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=(work.__doc__ or "").strip())
        one.set_defaults(work=work)
        return one

    for name, work, default in (("t2i", import_t2i, "lahr"), ("edits", import_edits, "omniedit")):
        one = command(name, work)
        one.add_argument("files", nargs="+", metavar="FILE", help="jsonl, json or parquet; paths or URLs")
        one.add_argument("--name", default=default, help=f"name of the data set (default {default})")
        one.add_argument("--map", type=Path, help="JSON file: field of the mapping to column of the files")
    one.add_argument("--pairs", type=Path, required=True, help="pairs.parquet that `unpack` wrote")
    one = command("unpack", unpack)
    one.add_argument("files", nargs="+", metavar="FILE", help="parquet files with the pictures' bytes")
    one.add_argument("--to", type=Path, required=True, help="folder to write to")
    one.add_argument("--licence", help="licence of the pairs; travels with every row")
    one.add_argument("--map", type=Path, help="JSON file: field of PairMapping to column of the files")
    command("refused", refused).add_argument("name", help="name of the data set")
    for name, work in (("export", export), ("coco", coco)):
        one = command(name, work)
        one.add_argument("out", type=Path, help="file to write: jsonl, json or parquet; for coco json")
        one.add_argument("--all", action="store_true", help="all good chains, not only accepted ones")
        if name == "export":
            one.add_argument("--edits", action="store_true", help="edit chains")
    return parser


def main(arguments: Sequence[str] | None = None, project: Project = PROJECT) -> int:
    """Entry of the command; the exit status."""
    given = _parser().parse_args(arguments)
    try:
        given.work(project, given)
    except (OSError, ValueError, StoreUnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
