"""`got score`: a model on benchmarks.

Belongs here: arguments and the table. Not here: benchmarks (`got_core.evaluate`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli.options import CHAMPION, Json, Recipe, examples


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "got score                                         the champion on all benchmarks",
            "got score models:/got/3 -b geneval/scenes",
            "got score ./my-pipeline --storage ./scores --json",
        )
    )(score)


def score(
    model: Annotated[str, typer.Argument(metavar="[MODEL]")] = CHAMPION,
    benchmark: Annotated[list[str] | None, typer.Option("--benchmark", "-b")] = None,
    storage: Annotated[str | None, typer.Option(metavar="URL")] = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Score a model on benchmarks."""
    raise NotImplementedError
