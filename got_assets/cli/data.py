"""`got data`: data sets in and out, people's verdicts, selection of a table.

Belongs here: arguments and what is printed. Not here: what is done (`got_assets.exchange`, `got_core`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.errors import UsageError
from got_assets.cli.options import Json, Recipe, examples, print_json
from got_assets.cli.project import choose_recipe, open_project, set_recipe
from got_core.filesystems import files_of
from got_core.redacted import redacted_url

if TYPE_CHECKING:
    import polars as pl

    from got_assets.exchange import Chosen
    from got_core.storage import Storage

IMPORTED = (".jsonl", ".json", ".parquet")
SHOWN = 5
"""Refused records of each reason that are printed."""

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE", help="Paths or URLs; a folder, with a slash at its end, is all files in it."
    ),
]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map", metavar="FILE.json", help="Which field of the mapping is which column of the files."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "import",
        epilog=examples(
            "got data import lahr/*.jsonl --name lahr --map lahr.json",
            "got data import s3://bucket/lahr/ --name lahr --map lahr.json",
            "got data import omniedit-got.jsonl --pairs /data/omniedit/pairs.parquet",
            "GOT_ANNOTATOR=imported got run          trains on them",
        ),
    )(import_)
    app.command(epilog=examples("got data refused lahr"))(refused)
    app.command(
        epilog=examples(
            "got data export ours.jsonl",
            "got data export edits.parquet --edits",
            "got data export boxes.json --coco",
            "got data export s3://bucket/ours/       one file a shard; goes on where it was",
        )
    )(export)
    app.command(epilog=examples("got data unpack omniedit/*.parquet --to /data/omniedit --licence MIT"))(
        unpack
    )
    app.command(
        epilog=examples(
            "got data review verdicts.json",
            "got data review *.json --storage file:///data/got",
            "got data review s3://bucket/verdicts/",
        )
    )(review)
    app.command(epilog=examples("got data retry"))(retry)
    app.command(
        epilog=examples(
            "got data select chains.parquet raw.parquet selection.parquet --recipe paper",
            "got data select edit_chains.parquet edit_pairs.parquet selection.parquet --edits",
        )
    )(select)


def import_(
    files: Files,
    name: Annotated[
        str | None, typer.Option(help="Of the data set. Not given: lahr, or omniedit with --pairs.")
    ] = None,
    mapping: Map = None,
    pairs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The chains are of edits, of these pairs: what `unpack` wrote."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import chains of a data set.

    The files are jsonl, json or parquet. Chains are joined with images and pairs that are ingested already
    (GOT_RAW, GOT_EDITS, `got run`).
    """
    from got_assets.exchange import import_edits, import_t2i, mapping_of
    from got_core.exchange.config import EditMapping, T2IMapping
    from got_core.exchange.parts import refused_records

    project = open_project()
    files = [one for url in files for one in files_of(url, IMPORTED, **_fs_options(url))]
    if pairs is None:
        texts = mapping_of(T2IMapping(name=name or "lahr"), mapping)
        name, counts = texts.name, import_t2i(project, files, texts, _told)
    else:
        edits = mapping_of(EditMapping(name=name or "omniedit"), mapping)
        name, counts = edits.name, import_edits(project, files, pairs, edits, _told)
    reasons = refused_records(project.storage, name)["reason"].value_counts(sort=True)
    if as_json:
        print_json({"name": name, **counts, "reasons": dict(reasons.iter_rows())})
    else:
        _print_import(name, counts, reasons)


def _print_import(name: str, counts: dict[str, int], reasons: pl.DataFrame) -> None:
    from got_assets.tables import text_table

    typer.echo(_counted(counts))
    if counts["refused"]:
        typer.echo(text_table(["refused because", "records"], reasons.iter_rows()))
        typer.echo(f"look at them: got data refused {name}")
    typer.echo("the next `GOT_ANNOTATOR=imported make run` uses them")


def refused(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the data set.")], as_json: Json = False
) -> None:
    """Show which records of an import were refused, and why."""
    from got_core.exchange.parts import refused_records

    frame = refused_records(open_project().storage, name)
    if as_json:
        print_json(frame.select("file", "row", "reason", "error").to_dicts())
        return
    for (reason,), rows in frame.group_by("reason", maintain_order=True):
        typer.echo(f"{reason}: {rows.height}")
        for row in rows.head(SHOWN).iter_rows(named=True):
            typer.echo(f"  {row['file']}, row {row['row']}: {row['error']}")
    if frame.is_empty():
        typer.echo(f"no record of {name} was refused")


def export(
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="File to write (jsonl, json or parquet), or a folder, with a slash at its end, for one file "
            "a shard. A path or URL.",
        ),
    ],
    edits: Annotated[bool, typer.Option("--edits", help="Edit chains.")] = False,
    coco: Annotated[bool, typer.Option("--coco", help="Boxes, as a COCO detection file (json).")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All good chains, not only accepted ones.")
    ] = False,
    shard: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this shard; may be given several times.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of the files in a folder: parquet, jsonl or json.")
    ] = "parquet",
) -> None:
    """Export chains in the released form, with source and licence.

    In a folder a finished part is kept, so that an export that was stopped goes on where it was. Exit status
    1 if a shard could not be exported; the others are.
    """
    from got_assets import exchange

    if coco and edits:
        raise UsageError("--coco writes boxes of text-to-image chains; leave out --edits")
    chosen = exchange.Chosen(edits=edits, coco=coco, everything=everything)
    project, shards = open_project(), shard or []
    if out.endswith("/"):
        _export_parts(out, chosen, "json" if coco else form, shards)
    elif coco:
        typer.echo(_counted(exchange.export_coco(project, out, chosen, shards)))
    else:
        typer.echo(f"{exchange.export(project, out, chosen, shards)} records in {redacted_url(out)}")


def _export_parts(out: str, chosen: Chosen, form: str, shards: list[str]) -> None:
    from got_assets import exchange
    from got_core.exchange.export import FORMATS

    if f".{form}" not in FORMATS:
        raise UsageError(f"--format {form}: need one of {', '.join(one[1:] for one in FORMATS)}")
    done = exchange.export_in_parts(
        open_project(), out, chosen, f".{form}", shards=shards, progress=_counted_parts
    )
    typer.echo(f"{done.records} records in {redacted_url(out)}, {len(done.made)} parts written now")
    for name, why in done.damaged.items():
        typer.echo(f"{name}: {why}", err=True)
    raise typer.Exit(int(bool(done.damaged)))


def unpack(
    files: Files,
    folder: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Folder to write to.")],
    licence: Annotated[str | None, typer.Option(help="Licence of the pairs; travels with every row.")] = None,
    mapping: Map = None,
) -> None:
    """Unpack edit pairs: from parquet files with the pictures' bytes to files that GOT_EDITS can name."""
    from got_assets import exchange
    from got_core.exchange.config import PairMapping
    from got_core.exchange.pairs import TABLE

    found = exchange.mapping_of(PairMapping(), mapping, licence)
    typer.echo(_counted(exchange.unpack(open_project(), files, folder, found)))
    typer.echo(f"now set GOT_EDITS={folder.absolute() / TABLE} and run `make run`")


def review(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="JSON files as the review page saves them, paths or URLs. A folder, with a slash at its "
            "end, is all of its files.",
        ),
    ],
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Not given: GOT_STORAGE, or below GOT_HOME.")
    ] = None,
) -> None:
    """Record people's verdicts; the next selection heeds them.

    Exit status 1 if a file or a verdict cannot be used; the others are recorded.
    """
    place, failed = _storage(storage), False
    for path in files:
        try:
            names = files_of(path, (".json",), **_fs_options(path))
        except OSError as error:
            typer.echo(f"{redacted_url(path)}: {error}", err=True)
            failed = True
            continue
        for name in names:
            failed |= not _recorded(place, name)
    raise typer.Exit(int(failed))


def _recorded(place: Storage, path: str) -> bool:
    """Whether a file and all of its verdicts can be used; says what became of it."""
    from got_core.curate.review import record_file

    shown = redacted_url(path)
    try:
        recorded = record_file(place, path, **_fs_options(path))
    except (OSError, ValueError) as error:
        typer.echo(f"{shown}: {error}", err=True)
        return False
    typer.echo(f"{shown}: {recorded.used} verdicts recorded as {recorded.table}")
    for chain_id, wrong in recorded.unused:
        typer.echo(f"{shown}: {chain_id}: {wrong}", err=True)
    return not recorded.unused


def _fs_options(url: str) -> dict[str, Any]:
    return open_project().settings.fs_options(url)


def retry(recipe: Recipe = None) -> None:
    """Ask again for rows that are quarantined because a server or a disk failed.

    Older versions stored such faults like verdicts. Their tables are made again, and what hangs on them; what
    was answered or truly refused is not asked again.
    """
    set_recipe(recipe)
    from got_assets.retry import retry as retry_all
    from got_assets.run import main

    raise typer.Exit(main(retry_all))


def select(
    chains: Annotated[Path, typer.Argument(metavar="CHAINS", help="Parquet table of chains.")],
    pictures: Annotated[
        Path, typer.Argument(metavar="PICTURES", help="Parquet table of their raw images, or edit pairs.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Parquet file to write the selection to.")],
    recipe: Recipe = None,
    edits: Annotated[bool, typer.Option("--edits", help="The chains are edit chains.")] = False,
    as_json: Json = False,
) -> None:
    """Apply a recipe's rules to a table of chains, from file to file; it may be larger than memory."""
    from got_core.curate.select_file import select_file

    config = choose_recipe(recipe).curate
    counts = select_file(chains, pictures, out, config, kind="edit" if edits else "t2i")
    if as_json:
        print_json(dict(counts))
        return
    for name, count in counts.items():
        typer.echo(f"{name:<24} {count:>10}")


def _storage(url: str | None) -> Storage:
    from got_core.storage import Storage

    project = open_project()
    return project.storage if url is None else Storage(url, **project.settings.fs_options(url))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _counted_parts(done: int, of: int) -> None:
    typer.echo(f"  {done} of {of} parts", err=True)


def _told(done: int, _: int) -> None:
    typer.echo(f"  {done} records", err=True)
