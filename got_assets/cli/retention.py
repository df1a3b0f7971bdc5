"""`got gc`: what nothing names any more, shown and removed.

Belongs here: arguments and what is printed. Not here: what goes (`got_core.retention`), leases
(`got_assets.retention`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.options import Json, Recipe, examples, print_json
from got_assets.cli.project import open_project

if TYPE_CHECKING:
    from got_core.retention.plan import Plan, Tally
    from got_core.retention.removal import Freed


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        name="gc",
        epilog=examples(
            "got gc                               what would go, and why the rest stays",
            "got gc --delete                      remove it",
            "GOT_KEEP_MODELS=90 got gc            with another age, in days",
        ),
    )(collect)


def collect(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what would go. Not given: it is only shown.")
    ] = False,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Show, or remove, what nothing names any more: old models, checkpoints, benchmark pictures, leftovers.

    What a registered model version, a current asset or an unfinished training needs stays, and so does
    whatever is not recognised. May be stopped and repeated at any moment, also while a run works. Exit status
    1 where something could not be removed, or the registry not be asked: then nothing is removed.
    """
    project = open_project(recipe)
    from got_assets.definitions import defs
    from got_assets.retention import clean, look_through

    def report(line: str) -> None:
        typer.echo(line, err=True)

    graph = defs.resolve_asset_graph()
    plan, freed = clean(project, graph, report) if delete else (look_through(project, graph), None)
    if as_json:
        print_json(_document(plan, freed))
    else:
        _show(plan, freed)
    if freed is not None and freed.faults:
        raise typer.Exit(1)


def _document(plan: Plan, freed: Freed | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "goes": [_row(key, tally) for key, tally in sorted(plan.rows().items())],
        "stays": [_row(key, tally) for key, tally in sorted(plan.kept.items())],
        "not_recognised": plan.unknown,
        "registered_versions": plan.versions,
    }
    if freed is not None:
        document["freed"] = {"files": freed.files, "bytes": freed.size, "faults": freed.faults}
    return document


def _row(key: tuple[str, str], tally: Tally) -> dict[str, Any]:
    kind, why = key
    oldest = _date(tally.oldest)
    return {
        "kind": kind,
        "why": why,
        "units": tally.units,
        "files": tally.files,
        "bytes": tally.size,
        "oldest": oldest,
    }


def _date(moment: float) -> str | None:
    return None if moment == float("inf") else datetime.fromtimestamp(moment, UTC).date().isoformat()


def _show(plan: Plan, freed: Freed | None) -> None:
    from got_assets.tables import text_table
    from got_core.retention.kinds import UNKNOWN

    header = ["", "units", "files", "bytes", "oldest"]
    for title, rows in (("goes", plan.rows()), ("stays", plan.kept)):
        lines = [
            (f"{kind}: {why}", f"{one.units:,}", f"{one.files:,}", f"{one.size:,}", _date(one.oldest))
            for (kind, why), one in sorted(rows.items())
        ]
        typer.echo(f"{text_table([title, *header[1:]], lines)}\n")
    if plan.unknown:
        count = sum(one.units for (kind, _), one in plan.kept.items() if kind == UNKNOWN)
        typer.echo(f"not recognised, never touched ({count:,}): {', '.join(plan.unknown[:5])}, ...\n")
    typer.echo(_end(plan, freed))


def _end(plan: Plan, freed: Freed | None) -> str:
    size = sum(one.size for one in plan.rows().values())
    if freed is None:
        asked = f"{plan.versions} registered versions were asked for what they need"
        return (
            f"{len(plan.going):,} things of {size:,} bytes would go ({asked}); got gc --delete removes them"
        )
    lines = [f"freed {freed.size:,} bytes, {freed.files:,} files"]
    if freed.faults:
        name, why = next(iter(freed.faults.items()))
        lines.append(f"{len(freed.faults):,} files could not be deleted, first {name}: {why}")
    return "\n".join(lines)
