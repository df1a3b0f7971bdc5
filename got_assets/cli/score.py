"""`got score`: a model on benchmarks.

Belongs here: arguments and the table. Not here: benchmarks (`got_core.evaluate`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli.options import CHAMPION, Json, Recipe, examples, print_json
from got_assets.cli.project import open_project


def _benchmarks(incomplete: str) -> list[str]:
    from got_core.evaluate.benchmarks import BENCHMARKS

    return [one.name for one in BENCHMARKS if one.name.startswith(incomplete)]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "got score                                       the champion, on all benchmarks",
            "got score models:/got/3 -b geneval/scenes       a version, on one",
            "got score ./my-pipeline --storage ./scores --json",
        )
    )(score)


def score(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Registered model, or folder of a saved pipeline.")
    ] = CHAMPION,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            metavar="NAME",
            autocompletion=_benchmarks,
            help="geneval/scenes or edits/scenes; may be given again. Not given: all.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Folder or URL for pictures and scores. Not given: GOT_STORAGE, or GOT_HOME's.",
        ),
    ] = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Score a model on benchmarks.

    World, sizes and seeds are the recipe's. Pictures of the model that are in the storage already are not
    drawn again, so an interrupted run goes on where it was.
    """
    project = open_project(recipe)
    from got_assets.tables import score_table
    from got_core.inference.scoring import score_model
    from got_core.storage import Storage

    place = project.storage if storage is None else Storage(storage, **project.settings.fs_options(storage))
    found = score_model(
        model,
        benchmark or [],
        project.recipe,
        place,
        project.settings.tracking_uri,
        progress=lambda text: typer.echo(f"  {text}", err=True),
    )
    if as_json:
        print_json({"model": found.model, "weights_hash": found.weights_hash, "scores": found.scores})
        return
    for name, scores in found.scores.items():
        typer.echo(f"{score_table(scores)}\npictures and samples: {found.folders[name]}\n")
