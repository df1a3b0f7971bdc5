"""Takedown as an asset, its sensor, and the command that puts ids on the list.

    python -m got_assets.defs.curate.takedown add ID [ID ...] --reason "withdrawn by its owner"
    python -m got_assets.defs.curate.takedown list
    python -m got_assets.defs.curate.takedown copies
    python -m got_assets.defs.curate.takedown confirm ID [ID ...]
    python -m got_assets.defs.curate.takedown keep ID [ID ...]
    python -m got_assets.defs.curate.takedown models ID [ID ...]

Belongs here: the thin shell. What is removed, and how: `got_core.curate.takedown`.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import argparse
import sys
import time
from collections.abc import Sequence

import dagster as dg
import polars as pl

from got_assets.defs.curate.assets import TAKEDOWNS
from got_assets.defs.ingest.assets import edit_pairs, raw_images
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS
from got_assets.project import PROJECT, Project, code_version
from got_assets.reporting import column_schema, markdown_table, table_result
from got_assets.staleness import inputs_tag
from got_core.curate import schemas
from got_core.curate.takedown_lists import list_digest

MODEL_NAME = "got"
EVERY = 300
_NOT_FOUND = pl.col("item_id").is_null()


@dg.asset(
    deps=[raw_images, edit_pairs],
    group_name="curate",
    kinds={"polars"},
    owners=["team:data"],
    code_version=code_version(3, PROJECT.recipe.curate, TAKEDOWNS),
    metadata=column_schema(schemas.TAKEN_DOWN),
)
def taken_down(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
) -> dg.MaterializeResult[pl.DataFrame]:
    """What the takedown list names, removed from all tables, with the model versions trained on it.

    Pictures that only look like what is named wait for a person, on a page with their thumbnails. A version
    whose manifests are not archived may have been trained on anything and is listed as unknown.
    """
    from got_core.curate.takedown import read_takedowns, take_down
    from got_core.curate.takedown_lists import COPIES_PAGE
    from got_core.curate.trained_on import versions_trained_on

    started, storage = time.monotonic(), project.storage
    tags = inputs_tag(context.instance, {"raw_images": IMAGE_SHARDS, "edit_pairs": EDIT_SHARDS})
    listed = read_takedowns(storage)
    ledger, removed, waiting = take_down(storage, project.recipe.curate, project.readers())
    wanted = set(ledger["item_id"]) | {one for one in listed["id"] if len(one) == 64}
    versions = versions_trained_on(storage, wanted, project.settings.tracking_uri, MODEL_NAME)
    frame = taken_down_table(listed, ledger, versions)
    return table_result(
        frame,
        rows_in=frame.height,
        started=started,
        rejected=pl.lit(False),
        requests=listed.height,
        rows_removed=markdown_table(["table", "rows removed now"], removed.items()),
        model_versions=versions_markdown(versions),
        not_found=markdown_table(["request"], [[one] for one in frame.filter(_NOT_FOUND)["request"]]),
        copies_waiting=waiting.height,
        copies=_copies_markdown(waiting),
        copies_page=dg.MetadataValue.url(storage.url_of(COPIES_PAGE)) if waiting.height else "none",
        tags=tags,
    )


def taken_down_table(listed: pl.DataFrame, ledger: pl.DataFrame, versions: pl.DataFrame) -> pl.DataFrame:
    """TAKEN_DOWN: one row a request and item; a request that was not found has one row without an item."""
    by_item = (
        versions.select("version", pl.col("items").alias("item_id"))
        .explode("item_id")
        .drop_nulls("item_id")
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("version").alias("versions"))
    )
    rows = listed.rename({"id": "request"}).join(ledger, on="request", how="left", maintain_order="left")
    named = rows.with_columns(key=pl.coalesce("item_id", "request"))
    joined = named.join(by_item, left_on="key", right_on="item_id", how="left", maintain_order="left")
    filled = joined.with_columns(pl.col("versions").fill_null(pl.lit([], dtype=pl.List(pl.String))))
    return filled.select(list(schemas.TAKEN_DOWN))


def _copies_markdown(waiting: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """The first pictures that wait for a person."""
    shown = waiting.select("request", "item_id", "distance", "color", "path").head(50)
    return markdown_table(shown.columns, shown.iter_rows())


def versions_markdown(versions: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Model versions as a small table."""
    rows = [
        (row["version"], ", ".join(row["aliases"]), len(row["items"]), "yes" if row["known"] else "NO")
        for row in versions.iter_rows(named=True)
    ]
    return markdown_table(["version", "aliases", "items trained on", "manifests archived"], rows)


@dg.sensor(target=dg.AssetSelection.assets("taken_down", "training_manifest"), minimum_interval_seconds=EVERY)
def watch_takedowns(
    context: dg.SensorEvaluationContext, project: dg.ResourceParam[Project]
) -> dg.RunRequest | dg.SkipReason:
    """Looks at the takedown list; a changed one is applied and a new manifest made. Off until switched on."""
    digest = list_digest(project.storage)
    if digest in (context.cursor, "unreadable"):
        return dg.SkipReason("the takedown list is as it was" if context.cursor else "no storage to look at")
    context.update_cursor(digest)
    return dg.RunRequest(run_key=f"takedown:{digest}")


def main(arguments: Sequence[str] | None = None, project: Project = PROJECT) -> int:
    """Entry of the command; the exit status."""
    given = _parser().parse_args(arguments)
    try:
        _COMMANDS[given.command](project, given)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m got_assets.defs.curate.takedown")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, work in _COMMANDS.items():
        one = commands.add_parser(name, help=(work.__doc__ or "").strip())
        if name not in ("list", "copies"):
            one.add_argument("ids", nargs="+", metavar="ID")
        if name == "add":
            one.add_argument("--reason")
    return parser


def _add(project: Project, given: argparse.Namespace) -> None:
    """Put ids on the list; the next run removes them."""
    from got_core.curate.takedown import add_takedowns, told_of

    add_takedowns(project.storage, given.ids, given.reason)
    for one, said in told_of(project.storage, [one.strip().lower() for one in given.ids]).items():
        print(f"{one}  {said}")
    print("the next run removes them from tables, selections and the manifest")


def _list(project: Project, _: argparse.Namespace) -> None:
    """Show the list, and what each id stands for."""
    from got_core.curate.takedown import read_takedowns, told_of

    table = read_takedowns(project.storage)
    told = told_of(project.storage, table["id"].to_list())
    for one, reason, added in table.iter_rows():
        print(f"{one}  {added or '-'}  {reason or ''}  ({told[one]})")


def _copies(project: Project, _: argparse.Namespace) -> None:
    """Show the pictures that look like what was taken down and wait to be judged."""
    from got_core.curate.copies import waiting_copies
    from got_core.curate.takedown_lists import COPIES_PAGE

    waiting = waiting_copies(project.storage)
    for row in waiting.iter_rows(named=True):
        color = "colours not known" if row["color"] < 0 else f"colours {row['color']} levels"
        print(f"{row['item_id']}  for {row['request']}: {row['distance']} bits, {color}  {row['path']}")
    if waiting.is_empty():
        print("no picture waits to be judged")
    else:
        print(f"with pictures: {project.storage.url_of(COPIES_PAGE)}; then `confirm ID ...` or `keep ID ...`")


def _confirm(project: Project, given: argparse.Namespace) -> None:
    """Say of listed pictures that they are copies; the next run removes them."""
    from got_core.curate.copies import judge_copies

    judge_copies(project.storage, given.ids, copies=True)
    print("the next run removes them")


def _keep(project: Project, given: argparse.Namespace) -> None:
    """Say of listed pictures that they are other ones; they stay and are not listed again."""
    from got_core.curate.copies import judge_copies

    judge_copies(project.storage, given.ids, copies=False)
    print("they stay, and are not listed again for these requests")


def _models(project: Project, given: argparse.Namespace) -> None:
    """Show the model versions that were trained on ids."""
    from got_core.curate.takedown import stands_for
    from got_core.curate.trained_on import versions_trained_on

    wanted = stands_for(project.storage, given.ids)
    found = versions_trained_on(project.storage, wanted, project.settings.tracking_uri, MODEL_NAME)
    if found.is_empty():
        print("no registered model version was trained on any of them")
    for row in found.iter_rows(named=True):
        text = f"{len(row['items'])} of them" if row["known"] else "unknown: its manifest is not archived"
        print(f"version {row['version']} ({', '.join(row['aliases']) or 'no alias'}): {text}")


_COMMANDS = {
    "add": _add,
    "list": _list,
    "copies": _copies,
    "confirm": _confirm,
    "keep": _keep,
    "models": _models,
}


if __name__ == "__main__":
    sys.exit(main())
