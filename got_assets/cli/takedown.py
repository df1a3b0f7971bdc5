"""`got data takedown`: the list of what must go.

Belongs here: arguments and what is printed. Not here: what is removed, and how (`got_core.curate.takedown`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli.options import MODEL_NAME, SETTINGS, Json, examples, print_json
from got_assets.cli.project import open_project

Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of images, pairs or chains.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    takedown = typer.Typer(
        name="takedown",
        help="The list of what must go, and the models that were trained on it.",
        epilog=examples(
            'got data takedown add ID --reason "withdrawn by its owner"',
            "got data takedown apply",
            "got data takedown models ID",
            "got data takedown copies              then: confirm ID, or keep ID",
        ),
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
    takedown.command(epilog=examples('got data takedown add ID ID --reason "withdrawn by its owner"'))(add)
    takedown.command(epilog=examples("got data takedown apply"))(apply)
    takedown.command(epilog=examples("got data takedown report --json"))(report)
    takedown.command("list", epilog=examples("got data takedown list --json"))(list_)
    takedown.command(epilog=examples("got data takedown copies"))(copies)
    takedown.command(epilog=examples("got data takedown confirm ID"))(confirm)
    takedown.command(epilog=examples("got data takedown keep ID"))(keep)
    takedown.command(epilog=examples("got data takedown models ID"))(models)
    app.add_typer(takedown)


def add(
    ids: Ids, reason: Annotated[str | None, typer.Option(help="Stands beside the ids on the list.")] = None
) -> None:
    """Put ids on the list; the next run removes them."""
    from got_core.curate.takedown import add_takedowns, request_status

    storage = open_project().storage
    add_takedowns(storage, ids, reason)
    for one, said in request_status(storage, [one.strip().lower() for one in ids]).items():
        typer.echo(f"{one}  {said}")
    typer.echo("the next run removes them everywhere; at once: got data takedown apply")


def apply() -> None:
    """Remove what is on the list now, from all of the storage, and show the report."""
    import dagster as dg

    from got_assets.defs.curate.applying import apply_takedowns
    from got_assets.home import prepare_dagster_home

    project = open_project()
    prepare_dagster_home(project)
    with dg.DagsterInstance.get() as instance:
        done = apply_takedowns(project, instance, "got data takedown apply")
    if not done.report:
        typer.echo("nothing was left to do")
        return
    report()
    typer.echo(f"kept as {project.storage.url_of(done.report)}")


def report(as_json: Json = False) -> None:
    """Show what the last takedown rewrote, and what is left where."""
    from got_core.curate.takedown_report import last_report

    found = last_report(open_project().storage)
    if as_json:
        print_json(found)
        return
    if found is None:
        typer.echo("nothing was taken down yet")
        return
    typer.echo(f"{found['time']}: {len(found['requests'])} requests; rows (files, answers) removed now:")
    for place, count in found["rewritten"].items():
        typer.echo(f"  {place}: {count}")
    typer.echo("not reached:")
    for place, what in found["left"].items():
        typer.echo(f"  {place}: {what}")


def list_(as_json: Json = False) -> None:
    """Show the list, and what each id stands for."""
    from got_core.curate.takedown import read_takedowns, request_status

    storage = open_project().storage
    table = read_takedowns(storage)
    told = request_status(storage, table["id"].to_list())
    if as_json:
        print_json([{**row, "found": told[row["id"]]} for row in table.iter_rows(named=True)])
        return
    for one, reason, added in table.iter_rows():
        typer.echo(f"{one}  {added or '-'}  {reason or ''}  ({told[one]})")


def copies(as_json: Json = False) -> None:
    """Show pictures that look like what was taken down and wait to be judged."""
    from got_core.corpus.members import shown
    from got_core.curate.copies import waiting_copies
    from got_core.curate.takedown_lists import COPIES_PAGE

    storage = open_project().storage
    waiting = waiting_copies(storage)
    if as_json:
        print_json(waiting.select("item_id", "request", "distance", "color", "path").to_dicts())
        return
    for row in waiting.iter_rows(named=True):
        color = "colours not known" if row["color"] < 0 else f"colours {row['color']} levels"
        typer.echo(
            f"{row['item_id']}  for {row['request']}: {row['distance']} bits, {color}  {shown(row['path'])}"
        )
    if waiting.is_empty():
        typer.echo("no picture waits to be judged")
    else:
        typer.echo(f"with pictures: {storage.url_of(COPIES_PAGE)}; then `confirm ID ...` or `keep ID ...`")


def confirm(ids: Ids) -> None:
    """Judge listed pictures to be copies; the next run removes them."""
    from got_core.curate.copies import judge_copies

    judge_copies(open_project().storage, ids, copies=True)
    typer.echo("the next run removes them")


def keep(ids: Ids) -> None:
    """Judge listed pictures to be other ones; they stay and are not listed again."""
    from got_core.curate.copies import judge_copies

    judge_copies(open_project().storage, ids, copies=False)
    typer.echo("they stay, and are not listed again for these requests")


def models(ids: Ids, as_json: Json = False) -> None:
    """Show the model versions that were trained on ids."""
    from got_core.curate.takedown import resolve_requests
    from got_core.curate.trained_on import versions_trained_on

    project = open_project()
    wanted = resolve_requests(project.storage, ids)
    found = versions_trained_on(project.storage, wanted, project.settings.tracking_uri, MODEL_NAME)
    if as_json:
        print_json(found.to_dicts())
        return
    if found.is_empty():
        typer.echo("no registered model version was trained on any of them")
    for row in found.iter_rows(named=True):
        text = f"{len(row['items'])} of them" if row["known"] else "unknown: its manifest is not archived"
        typer.echo(f"version {row['version']} ({', '.join(row['aliases']) or 'no alias'}): {text}")
        for until in row["until"]:
            item, _, stages = until.partition(" ")
            typer.echo(f"  {item} was taken down while it was trained; used until step: {stages}")
