"""`got score report`: scores of any number of models side by side.

Belongs here: arguments, and the table for the terminal. Not here: which scores may stand side by side
(`got_core.evaluate.comparison`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.options import Json, examples, print_json

if TYPE_CHECKING:
    from got_assets.cli.scored_places import Places


def add_to(score: typer.Typer) -> None:
    """Add the command."""
    score.command(
        epilog=examples(
            "got score report pictures/got-scores pictures/got-no-plan-scores",
            "got score report scores/*/scores.json s3://bucket/scores/other --html scores.html",
            "got score report scores/got scores/sdxl --base scores/sdxl --price-per-hour 2.5",
            "got score report models:/got@champion models:/got@challenger --html both.html",
        )
    )(report)


def report(
    scores: Annotated[
        list[str],
        typer.Argument(
            metavar="SCORES...",
            help="Folders that `got score judge` wrote, or their scores.json, or registered models such as "
            "models:/got@champion that were scored in this storage.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(metavar="SCORES", help="Scores of the base model, which others are compared with."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of an hour of one device, for money a picture.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            dir_okay=False,
            help="Also write a page with pictures and plans side by side; replaced if there.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set scores of one protocol side by side, and say field by field why others do not stand there.

    Scores that differ only in whether the model drew from plans share a table, which says so. Beside every
    figure stands of how many pictures it is.
    """
    from got_assets.cli.scored_places import Places
    from got_core.evaluate.comparison import compare

    places = Places()
    named = dict.fromkeys([*scores, *([base] if base else [])])
    all_found = [one for place in named for one in places.find(place)]
    found = list({one.url: one for one in reversed(all_found)}.values())[::-1]
    of_base = places.find(base) if base else []
    compared = compare(found, base=[one.url for one in of_base], price_per_hour=price_per_hour)
    if html is not None:
        _write_page(compared, html, places)
    if as_json:
        print_json(compared)
        return
    typer.echo(comparison_text(compared))


def _write_page(compared: Mapping[str, Any], path: Path, places: Places) -> None:
    from got_core.evaluate.comparison_page import comparison_page
    from got_core.local_files import write_local

    page = comparison_page(compared, runs=places.runs()).encode("utf-8", "replace")
    write_local(path, lambda file: file.write(page), exclusive=False)


def comparison_text(compared: Mapping[str, Any]) -> str:
    """A comparison for the terminal."""
    return "\n".join(line for one in compared["benchmarks"] for line in _benchmark(one))


def _benchmark(one: Mapping[str, Any]) -> Iterator[str]:
    from got_core.evaluate.comparison_page import spelled_apart, spelled_difference, spelled_outside

    for table in one["tables"]:
        yield _table(table)
        yield from (f"  note: {note}" for note in table["notes"])
        yield from (f"  {spelled_difference(diff)}" for diff in table["differences"])
        yield from (f"  {spelled_apart(one)}" for one in table["apart"])
        yield from (f"  {spelled_outside(one)}" for one in table["outside"])
        yield ""
    for unlike in one["unlike"]:
        yield f"not side by side: {unlike['left']} and {unlike['right']}:"
        yield from (f"  {line}" for line in unlike["why"])
        yield ""
    for figure in one["published"]:
        yield f"  {figure['model']}: overall {figure['overall']:.2f} ({figure['note']})"


def _table(table: Mapping[str, Any]) -> str:
    from got_assets.tables import text_table
    from got_core.evaluate.comparison import spelled_row
    from got_core.evaluate.comparison_page import counted

    spent = [name for name in ("seconds", "money") if any(row[name] is not None for row in table["rows"])]
    rows = [
        (
            spelled_row(row),
            counted(row),
            *(_cell(row["figures"].get(name)) for name in table["figures"]),
            *("" if row[name] is None else f"{row[name]:.4g}" for name in spent),
        )
        for row in table["rows"]
    ]
    header = [table["protocol"], "n / N", *table["figures"], *(f"{name} a picture" for name in spent)]
    return text_table(header, rows)


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    mean = "none" if figure["mean"] is None else f"{figure['mean']:.3f}"
    return f"{mean} {figure['of'].replace(' ', '')}"
