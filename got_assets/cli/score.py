"""`got score`: models on benchmarks, in one go or step by step.

Belongs here: the group, and scoring a model on the graph's benchmarks. Not here: single steps
(`score_steps`), comparing scores (`score_report`), benchmarks (`got_core.evaluate`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli import score_apart, score_report, score_stages, score_steps
from got_assets.cli.errors import UsageError
from got_assets.cli.options import CHAMPION, SETTINGS, Json, Recipe, examples, print_json
from got_assets.cli.project import open_project


def _benchmarks(incomplete: str) -> list[str]:
    from got_core.evaluate.benchmarks import BENCHMARKS

    return [one.name for one in BENCHMARKS if one.name.startswith(incomplete)]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    score = typer.Typer(
        name="score",
        help="Score models and folders of pictures on benchmarks, and compare scores.",
        epilog=examples(
            "got score run                                          the champion, on scenes",
            "got score fetch-list                                   what published benchmarks need",
            "got score generate -b geneval --pictures pictures/got",
            "got score judge -b geneval --pictures pictures/got",
            "got score report pictures/got-scores pictures/base-scores --html scores.html",
            "got score stages                                       what each stage of a run added",
        ),
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
    score.command(
        epilog=examples(
            "got score run                                       the champion, on scenes",
            "got score run models:/got/3 -b geneval/scenes       a version, on one",
            "got score run ./my-pipeline --storage ./scores --json",
        )
    )(run)
    score_steps.add_to(score)
    score_report.add_to(score)
    score_apart.add_to(score)
    score_stages.add_to(score)
    app.add_typer(score)


def run(
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
            help="Such as geneval/scenes; a wrong name lists all. May be given again. Not given: "
            "geneval/scenes and edits/scenes.",
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
    """Score a model on benchmarks of rendered scenes, in one go.

    World, sizes and seeds are the recipe's. Pictures of the model that are in the storage already are not
    drawn again, so an interrupted run goes on where it was.
    """
    _check_names(benchmark or [])
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


def _check_names(names: list[str]) -> None:
    """Published benchmarks are scored step by step."""
    from got_core.evaluate.judged_names import is_own
    from got_core.evaluate.published.registry import PUBLISHED_NAMES

    if published := next((name for name in names if name in PUBLISHED_NAMES or is_own(name)), None):
        raise UsageError(
            f"{published} is scored step by step: `got score generate -b {published}`, then "
            f"`got score judge -b {published}`"
        )
