"""`got train`: how far trainings are, and beginning one anew.

Belongs here: arguments and what is printed. Not here: what is found (`got_core.train.status`), and training
itself, which the graph does (`got run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from got_assets.cli.errors import UsageError, usage_errors
from got_assets.cli.options import SETTINGS, Json, Recipe, examples, print_json
from got_assets.cli.project import open_project

if TYPE_CHECKING:
    from got_core.train.status import StageStatus


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    train = typer.Typer(
        name="train",
        help="How far trainings are, and beginning one anew.",
        epilog=examples("got train status --recipe paper", "got train restart finetune --yes"),
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
    train.command(
        epilog=examples("got train status", "got train status --json | jq '.stages[] | {stage, state, step}'")
    )(status)
    train.command(epilog=examples("got train restart finetune --yes"))(restart)
    app.add_typer(train)


def status(recipe: Recipe = None, as_json: Json = False) -> None:
    """Show how far each stage of the recipe is.

    Reads the storage and MLflow alone, so it answers while a training runs, and after it was killed.
    """
    from dataclasses import asdict

    from got_core.train.status import training_status

    project = open_project(recipe)
    found = training_status(project.storage, project.settings.tracking_uri, project.recipe.stages)
    if as_json:
        print_json({"recipe": project.recipe.name, "stages": [asdict(one) for one in found]})
        return
    for one in found:
        for line in _lines(one, project.settings.tracking_uri):
            typer.echo(line)


def _lines(one: StageStatus, tracking_uri: str) -> list[str]:
    from got_core.redacted import redacted_url

    lines = [f"{one.stage}: {_state(one)}"]
    if one.folder is not None:
        lines.append(f"  folder      {redacted_url(one.folder)}")
    if one.checkpoint is not None:
        age = (
            "" if one.checkpoint_age_seconds is None else f", {_spelled_age(one.checkpoint_age_seconds)} ago"
        )
        lines.append(f"  checkpoint  step {one.step}{age}")
    if one.metrics:
        lines.append(f"  logged      {_spelled_losses(one)}")
    if one.skipped_steps or one.substituted_pictures:
        lines.append(f"  faults      {one.skipped_steps} steps skipped, {one.substituted_pictures} pictures "
                     "substituted")  # fmt: skip
    if one.mlflow_run_id is not None:
        lines.append(f"  MLflow      run {one.mlflow_run_id} at {redacted_url(tracking_uri)}")
    if one.mlflow_fault is not None:
        lines.append(f"  MLflow      not read: {one.mlflow_fault}")
    return lines


def _state(one: StageStatus) -> str:
    if one.state != "unfinished":
        return f"{one.state}, {one.steps} steps"
    last = "no checkpoint yet" if one.checkpoint is None else f"checkpoint of step {one.step}"
    return f"unfinished, {last}, of {one.steps} steps, begun {one.begun}"


def _spelled_losses(one: StageStatus) -> str:
    from got_core.train.tracking import is_loss

    losses = [f"{name} {value:.3f}" for name, value in sorted(one.metrics.items()) if is_loss(name)]
    return f"step {one.logged_step}: {', '.join(losses)}"


def _spelled_age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def restart(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Such as finetune.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it: checkpoints are deleted.")] = False,
    recipe: Recipe = None,
) -> None:
    """Forget an unfinished training of a stage: the next run begins it at step 0, with today's data.

    Not while it trains. Finished models stay.
    """
    from got_core.train.unfinished import forget_unfinished, unfinished

    project = open_project(recipe)
    with usage_errors():
        project.recipe.stage(stage)
    begun = unfinished(project.storage, stage)
    if not begun:
        typer.echo(f"{stage}: there is no unfinished training; nothing to forget")
        return
    if not yes:
        names = ", ".join(f"models/{stage}/{one['key']} (begun {one['begun']})" for one in begun)
        raise UsageError(f"this deletes the checkpoints of {names}; add --yes to do it")
    for folder in forget_unfinished(project.storage, stage):
        typer.echo(f"{stage}: gave up {folder}; the next run begins at step 0")
