"""`got score stages`: what each stage of a run added.

Belongs here: arguments, and what is printed. Not here: the work (`got_core.inference.stages`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli.errors import UsageError
from got_assets.cli.options import Json, Recipe, examples, print_json
from got_assets.cli.project import open_project

OUT = "stage-scores"


def add_to(score: typer.Typer) -> None:
    """Add the command, and `got score --stages` for it without options."""
    score.command(
        epilog=examples(
            "got score stages                                          600 prompts, 600 edits, three times",
            "got score stages --images-per-task 20 --edits 60 --seeds 1 --out quick",
            "got score stages --out s3://bucket/stages --json",
        )
    )(stages)
    score.callback(invoke_without_command=True)(_group)


def _group(
    context: typer.Context,
    compare_stages: Annotated[
        bool, typer.Option("--stages", help="The same as the command stages, without options.")
    ] = False,
) -> None:
    if compare_stages and context.invoked_subcommand:
        raise UsageError("--stages is a command of its own: give its options to got score stages")
    if compare_stages:
        stages()


def stages(
    images_per_task: Annotated[
        int, typer.Option(metavar="N", min=1, help="Prompts of each task of geneval/scenes.")
    ] = 100,
    edits: Annotated[int, typer.Option(metavar="N", min=1, help="Edits of edits/scenes.")] = 600,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How often each is drawn.")] = 3,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder or URL for pictures and figures.")
    ] = OUT,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Compare the foundation and the models of all stages of the home's last run.

    Each draws the same prompts and edits from the same noise: right plans, right pictures, right pictures
    from the same right plans, and differences with McNemar's test. Pictures that are there are not drawn
    again.
    """
    project = open_project(recipe)
    from got_core.inference.stages import Size, files, score_stages
    from got_core.storage import Storage

    place = Storage(out, **project.settings.fs_options(out))
    size = Size(images_per_task=images_per_task, edits=edits, sampling_seeds=seeds)
    found = score_stages(
        project.recipe, project.storage, place, size, lambda line: typer.echo(f"  {line}", err=True)
    )
    if as_json:
        print_json(found)
        return
    from got_assets.tables import text_table
    from got_core.evaluate.stages.figures import HEADER, STEP_HEADER, spelled, spelled_steps

    for name, one in found["benchmarks"].items():
        typer.echo(f"{name}\n\n{text_table(HEADER, spelled(one))}\n")
        typer.echo(f"{text_table(STEP_HEADER, spelled_steps(one))}\n")
    for what, url in files(place).items():
        typer.echo(f"{what}: {url}")
