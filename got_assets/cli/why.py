"""`got why`: the evidence behind single samples.

Belongs here: arguments, and what is printed. Not here: finding evidence (`got_core.inference.why`), and its
words (`got_core.evaluate.why.text`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.errors import UsageError, usage_errors
from got_assets.cli.options import Json, Recipe, examples
from got_assets.cli.project import open_project

if TYPE_CHECKING:
    from got_assets.project import Project
    from got_core.inference.why.home import WhyHome
    from got_core.inference.why.models import ChosenModel

_SIDE = 256
"""Pixels of a picture on a sheet."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "got why --failed geneval/scenes                        cells that fail, with their addresses",
            "got why geneval/scenes/00012                           the champion's picture",
            "got why edits/scenes/3 edits/scenes/7 --picture why.png",
            "got why geneval/00007-00002 --model pictures/got-scores/geneval",
            "got why pictures/got/00007/samples/00002.png --json",
        )
    )(why)


def why(
    samples: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SAMPLE...",
            help="BENCHMARK/SAMPLE, such as geneval/scenes/00012, or the file or name of a picture.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Registered model, alias or version, hash of weights, or a folder of scores. Not given: the "
            "champion, or where there is none the model that was made last.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Also write a sheet: planned and found boxes, and the training pictures."
        ),
    ] = None,
    near: Annotated[
        int, typer.Option(min=0, max=100, help="Training pictures to show, the nearest ones.")
    ] = 5,
    clip: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Also show the training pictures that this CLIP ViT-B/32 finds most similar.",
        ),
    ] = None,
    failed: Annotated[
        str | None, typer.Option(metavar="BENCHMARK", help="List cells that fail instead.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="With --failed: of this task.")] = None,
    cause: Annotated[
        str | None,
        typer.Option(
            metavar="CAUSE",
            help="With --failed: planned_wrong, drawn_wrong, trace_left, not_drawn or not_scored.",
        ),
    ] = None,
    number: Annotated[int, typer.Option("-n", min=1, help="With --failed: how many to list.")] = 20,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Explain single samples: from verdict to prompt, plan, seed, picture and what was found in it, on to the
    training pictures nearest to it and what was written about them.

    What is missing is said in its place. Pictures that were taken down are not shown.
    """
    _check(samples, failed, picture, task, cause)
    project = open_project(recipe)
    from got_core.inference.why.models import chosen_model

    home = _home(project, near, clip)
    chosen = chosen_model(home, model)
    if failed is not None:
        _list_failed(chosen, failed, task=task, cause=cause, most=number, as_json=as_json)
    else:
        _explain(project, chosen, samples or [], picture, as_json)


def _check(
    samples: list[str] | None, failed: str | None, picture: Path | None, task: str | None, cause: str | None
) -> None:
    if bool(samples) == (failed is not None):
        raise UsageError("name samples, such as geneval/scenes/00012, or give --failed BENCHMARK")
    if failed is None and (task or cause):
        raise UsageError("--task and --cause choose what --failed lists: give that too")
    if failed is not None and picture is not None:
        raise UsageError("--picture shows samples: name them, without --failed")
    if picture is not None:
        from got_core.inference.pictures import check_picture_name

        with usage_errors():
            check_picture_name(picture)


def _home(project: Project, near: int, clip: Path | None) -> WhyHome:
    from got_core.inference.why.home import WhyHome

    settings = project.settings
    return WhyHome(
        storage=project.storage,
        recipe=project.recipe,
        registry=settings.registry_place,
        benchmarks=settings.benchmarks,
        fs_options=settings.fs_options,
        roots=_roots(settings.raw_url, settings.edits_url),
        near=near,
        clip=clip,
        readers=project.readers,
        progress=lambda done, total: typer.echo(f"  CLIP: {done} of {total} pictures", err=True),
    )


def _roots(raw: str, edits: str | None) -> dict[str, str]:
    """Folders of training pictures, where they are plain ones."""
    from got_core.filesystems import local_path

    places = {"t2i": local_path(raw), "edit": local_path(edits) if edits else None}
    folders = {kind: place if kind == "t2i" else place.parent for kind, place in places.items() if place}
    return {kind: str(place) for kind, place in folders.items() if place.is_dir()}


def _explain(
    project: Project, chosen: ChosenModel, samples: list[str], picture: Path | None, as_json: bool
) -> None:
    from got_core.evaluate.why.text import evidence_text
    from got_core.inference.why.explaining import explain

    shown = [explain(chosen, sample) for sample in samples]
    if picture is not None:
        from got_core.inference.why.sheet import sheet_of
        from got_core.local_files import write_local

        data = sheet_of(shown, project.readers())
        write_local(picture, lambda file: file.write(data), exclusive=False)
    if as_json:
        found = [one.evidence.to_dict() for one in shown]
        _print_json(found if len(samples) > 1 else found[0])
        return
    typer.echo("\n\n".join(evidence_text(one.evidence) for one in shown))
    if picture is not None:
        typer.echo(f"\nsheet      {picture}")


def _list_failed(
    chosen: ChosenModel, benchmark: str, *, task: str | None, cause: str | None, most: int, as_json: bool
) -> None:
    from got_core.evaluate.why.address import sample_address
    from got_core.evaluate.why.cells import failed_cells
    from got_core.evaluate.why.text import failed_text

    found = failed_cells(chosen.result(benchmark), task=task, cause=cause, most=most)
    if not as_json:
        typer.echo(failed_text(benchmark, found))
        return
    cells = [
        {
            "address": sample_address(benchmark, one.name),
            "sample_id": one.sample_id,
            "task": one.task,
            "state": one.verdict.state,
            "cause": one.verdict.cause,
            "reason": one.verdict.reason,
            "value": one.verdict.value,
            "prompt": one.prompt,
        }
        for one in found.cells
    ]
    _print_json({"benchmark": benchmark, "failed": found.count, "of": found.of, "cells": cells})


def _print_json(value: Any) -> None:
    """One document; no character of a foreign text acts on a terminal."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=True))
