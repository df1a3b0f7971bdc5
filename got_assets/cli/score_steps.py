"""`got score generate`, `got score judge`, `got score fetch-list`: one step of scoring each.

Belongs here: arguments, and what is printed. Not here: the steps (`got_core.inference.score_steps`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.errors import UsageError, usage_errors
from got_assets.cli.options import CHAMPION, Json, Recipe, examples, print_json
from got_assets.cli.pictures import (
    GuidanceEvery,
    GuidanceFrom,
    GuidanceUntil,
    ReferenceScale,
    SpatialScale,
    Steps,
    TextScale,
)
from got_assets.cli.project import open_project

if TYPE_CHECKING:
    from got_assets.project import Project
    from got_core.evaluate.published.downloads import Download
    from got_core.inference.score_steps import Setup
    from got_core.storage import Storage


def benchmark_names(incomplete: str) -> list[str]:
    """For the shell's completion."""
    from got_core.inference.score_steps import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


Benchmark = Annotated[
    str,
    typer.Option(
        "--benchmark",
        "-b",
        metavar="NAME",
        autocompletion=benchmark_names,
        help="Such as geneval, geneval2, emu_edit/base, edits/scenes; a wrong name lists all.",
    ),
]
Pictures = Annotated[
    str,
    typer.Option(metavar="FOLDER", help="Folder or URL of the pictures, in the benchmark's official layout."),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda", help="Where networks run; auto: a GPU where there is one.")
]
_PLAN = "--plan/--no-plan"


def add_to(score: typer.Typer) -> None:
    """Add the commands."""
    score.command(
        epilog=examples(
            "got score generate -b geneval --pictures pictures/got",
            "got score generate -b geneval --pictures pictures/got-no-plan --no-plan",
            "got score generate -b emu_edit/base --model ./my-model --pictures s3://bucket/edits --steps 25",
            "got score generate -b geneval --model models:/got/3 --pictures pictures/got --workers 8",
        )
    )(generate)
    score.command(
        epilog=examples(
            "got score judge -b geneval --pictures pictures/got --device cuda",
            "got score judge -b geneval --pictures other-model --called 'Other 7B' --out scores/other",
            "got score judge -b geneval --detections found.jsonl --out scores/other",
            "got score judge -b emu_edit/large --pictures s3://bucket/edits --partial --json",
        )
    )(judge)
    score.command(
        name="fetch-list",
        epilog=examples("got score fetch-list", "got score fetch-list -b geneval --json"),
    )(fetch_list)


# -- generate ----------------------------------------------------------------------------------------


def generate(
    benchmark: Benchmark,
    pictures: Pictures,
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Registered model, or folder or URL of a saved pipeline or of a released checkpoint.",
        ),
    ] = CHAMPION,
    plan: Annotated[
        bool, typer.Option(_PLAN, help="Whether the model writes a plan of each picture and draws from it.")
    ] = True,
    steps: Steps = None,
    text_scale: TextScale = None,
    spatial_scale: SpatialScale = None,
    reference_scale: ReferenceScale = None,
    guidance_from: GuidanceFrom = None,
    guidance_until: GuidanceUntil = None,
    guidance_every: GuidanceEvery = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest plan, in tokens. Not given: the model's own.")
    ] = None,
    device: Device = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16|float16", help="Of the model. Not given: as it was saved."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Workers on Ray (GOT_RAY_ADDRESS) that draw. Not given: this process draws."
        ),
    ] = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Draw a model's pictures for a benchmark.

    What is there is not drawn again. A folder that holds pictures of another model, or drawn otherwise, is
    refused. Networks that judge are not needed.
    """
    from got_core.inference.score_steps import Drawing, benchmark_of
    from got_core.inference.score_steps import generate as draw
    from got_core.settings import Settings

    with usage_errors():
        benchmark_of(benchmark, Settings().benchmarks)
        sampler = _sampler(
            num_inference_steps=steps,
            text_scale=text_scale,
            spatial_scale=spatial_scale,
            reference_scale=reference_scale,
            guidance=(guidance_from, guidance_until, guidance_every),
            max_new_tokens=max_new_tokens,
        )
    project = open_project(recipe)
    drawing = Drawing(
        plan=plan,
        sampler=sampler,
        device=device,
        dtype=dtype,
        workers=workers,
        ray_address=project.settings.ray_address,
    )
    made = draw(benchmark, model, _storage(project, pictures), _setup(project, model), drawing)
    if as_json:
        print_json(made)
        return
    seconds = made["costs"]["seconds"]
    spent = "" if seconds is None else f", {seconds:.2f} seconds a picture"
    typer.echo(f"{made['pictures']}: {made['drawn']} pictures drawn now by {made['model']}{spent}")


def _sampler(*, guidance: tuple[float | None, float | None, int | None], **given: Any) -> dict[str, Any]:
    """What is forced on the model; what is not given is its own."""
    from got_core.model.config import GuidanceReuse

    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"--{name.replace('_', '-')} must be a finite number, got {value}")
    chosen = {**given, "guidance_reuse": GuidanceReuse.chosen(*guidance)}
    return {name: value for name, value in chosen.items() if value is not None}


def _setup(project: Project, model: str = "") -> Setup:
    from got_core.inference.any_model import ModelPlaces
    from got_core.inference.score_steps import Setup

    settings = project.settings
    return Setup(
        recipe=project.recipe,
        benchmarks=settings.benchmarks,
        models=ModelPlaces(
            tracking_uri=settings.tracking_uri,
            configs=settings.published,
            settings=_pipeline_settings(project) if settings.published else {},
            fs_options=settings.fs_options(model),
        ),
        judge=settings.judge_server.config(),
        report=lambda line: typer.echo(f"  {line}", err=True),
    )


def _pipeline_settings(project: Project) -> dict[str, Any]:
    from got_core.model.build import pipeline_settings

    return pipeline_settings(project.recipe.model)


def _storage(project: Project, place: str) -> Storage:
    from got_core.storage import Storage

    return Storage(place, **project.settings.fs_options(place))


# -- judge -------------------------------------------------------------------------------------------


def judge(
    benchmark: Benchmark,
    pictures: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder or URL of the pictures. Not needed with --detections."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder or URL for scores and verdicts. Not given: FOLDER-scores, beside the pictures.",
        ),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="GenEval: a file of detections, for the networks.",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="GenEval: what made a file of detections that does not name it."),
    ] = None,
    scene_reader: Annotated[
        bool,
        typer.Option(
            "--scene-reader", help="GenEval: judge by the scene reader, for lists about rendered scenes."
        ),
    ] = False,
    plan: Annotated[
        bool | None,
        typer.Option(
            _PLAN, help="Other people's pictures: whether they were drawn from plans. Not given: not known."
        ),
    ] = None,
    called: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Other people's pictures: what to call their model; of generations, whose to take.",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Leave gaps and faults out, and say so, instead of refusing them."),
    ] = False,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16|float16", help="Of the networks; part of the protocol.")
    ] = "float32",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Workers on Ray (GOT_RAY_ADDRESS) that judge. Not given: this process judges."
        ),
    ] = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Judge the pictures of any model, and write scores with their protocol.

    Missing, superfluous, unreadable and misshapen pictures are named and refused. What is judged already is
    not judged again. The model is not needed.
    """
    from got_core.inference.score_steps import Judging, benchmark_of
    from got_core.inference.score_steps import judge as score
    from got_core.settings import Settings

    with usage_errors():
        benchmark_of(benchmark, Settings().benchmarks)
    if pictures is None and (detections is None or out is None):
        raise UsageError("give --pictures, or --detections with --out")
    project = open_project(recipe)
    judging = Judging(
        device=device,
        dtype=dtype,
        judge=_judge(project, detections, detector, scene_reader),
        workers=workers,
        ray_address=project.settings.ray_address,
        partial=partial,
        plan=plan,
        model=called,
    )
    folder = None if pictures is None else _storage(project, pictures)
    place = out or f"{str(pictures).rstrip('/')}-scores/{benchmark.replace('/', '_')}"
    scores = score(benchmark, folder, _storage(project, place), _setup(project), judging)
    if as_json:
        print_json(scores)
        return
    from got_assets.cli.score_report import comparison_text
    from got_core.evaluate.comparison import compare
    from got_core.evaluate.score_folder import StoredScores

    typer.echo(comparison_text(compare([StoredScores(url=place, scores=scores)], published=False)))
    typer.echo(f"scores and verdicts: {place}")


def _judge(project: Project, detections: Path | None, detector: str | None, scene_reader: bool) -> Any:
    """What judges in place of the networks; None: they do."""
    if detections is not None and scene_reader:
        raise UsageError("--detections and --scene-reader are two detectors: give one of them")
    if detector is not None and detections is None:
        raise UsageError("--detector names what made --detections: give that too")
    if detections is not None:
        from got_core.evaluate.geneval.saved import SavedDetections

        return SavedDetections(detections, by=detector)
    if scene_reader:
        from got_core.evaluate.geneval.scene_reader import SceneReader

        return SceneReader(project.recipe.world, project.recipe.evaluate)
    return None


# -- fetch-list --------------------------------------------------------------------------------------


def fetch_list(
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            metavar="NAME",
            autocompletion=benchmark_names,
            help="A published benchmark; may be given again. Not given: all.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what published benchmarks need, from where, under which licence, and whether it is there.

    Nothing is downloaded: put it below the folder that GOT_BENCHMARKS names.
    """
    from got_core.evaluate.published.registry import published_benchmarks
    from got_core.settings import Settings

    place = Settings().benchmarks
    with usage_errors():
        chosen = published_benchmarks(benchmark or [], place)
    users: dict[Download, list[str]] = {}
    for one in chosen:
        for file in one.files:
            users.setdefault(file, []).append(one.name)
    rows = [_row(file, names, place) for file, names in users.items()]
    if as_json:
        print_json({"place": None if place is None else str(place), "files": rows})
        return
    typer.echo(f"below {place}" if place else "GOT_BENCHMARKS is not set: no folder was looked at")
    for row in rows:
        expected = "" if row["sha256"] is None else f"\n  SHA-256  {row['sha256']}"
        needed = "judging" if row["judging"] else "drawing and judging"
        typer.echo(
            f"\n{row['path']}: {_STATES[row['state']]}\n  is       {row['what']}\n  from     {row['where']}\n"
            f"  licence  {row['licence']}\n  for      {needed} of {', '.join(row['benchmarks'])}{expected}"
        )


_STATES = {
    None: "not looked for",
    "there": "there",
    "missing": "missing",
    "another": "there, but not the published one: its scores stand under a protocol of another name",
}


def _row(file: Download, names: list[str], place: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(file), "benchmarks": names, "state": None if place is None else file.state(place)}
