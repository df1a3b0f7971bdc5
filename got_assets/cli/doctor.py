"""`got doctor` and `got bench`: the state of this machine, and its speed.

Belongs here: arguments and what is printed. Not here: checks (`got_core.doctor`) and benchmarks (`bench`).
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from got_assets.cli.errors import sentence_of, usage_errors
from got_assets.cli.options import Json, examples, print_json


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples("got doctor", "got doctor --json | jq '.checks[] | select(.state != \"ok\")'")
    )(doctor)
    app.command(epilog=examples("got bench", "got bench bench_ingest bench_curate"))(bench)


def doctor(
    training: Annotated[
        bool, typer.Option("--training", help="Look at every node of the Ray cluster, from there.")
    ] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Let the workers of a training compute, and compare with the plan.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check versions, machine and services, and say what to do.

    Looks at Python, packages, processor, GPU, memory and disk, and at storage, MLflow, Ray, annotator and the
    weights that training starts from, as the settings name them. With --training every node that trains looks
    at its versions, disks, memory and GPUs, and at storage, pictures and MLflow, as before a training. With
    --gpu all workers of a training multiply matrices, exchange numbers and run the recipe's U-Net at its full
    width, beside what the training plan takes them to reach. Exit status 1 if something fails.
    """
    from dataclasses import asdict

    from got_core.doctor.examine import examine
    from got_core.doctor.finding import worst

    settings, fault = _settings()
    findings = examine(settings, fault)
    if training and settings is not None:
        findings += _of_training()
    if gpu and settings is not None:
        findings += _of_gpus()
    state = worst(findings)
    if as_json:
        print_json({"state": state, "checks": [asdict(one) for one in findings]})
    else:
        width = max(len(one.name) for one in findings)
        for one in findings:
            typer.echo(f"{one.state:<4}  {one.name:<{width}}  {one.found}")
            if one.advice:
                typer.echo(f"      {'':<{width}}  what to do: {one.advice}")
    raise typer.Exit(int(state == "fail"))


def _settings() -> tuple[Any, str]:
    """The settings of this process's project, or why there are none."""
    try:
        from got_assets.project import load_project

        return load_project().settings, ""
    except Exception as error:
        return None, sentence_of(error)


def _of_training() -> list[Any]:
    """What the nodes find, with the manifest if there is one."""
    from got_core.doctor.training import check_training

    return check_training(_training())


def _of_gpus() -> list[Any]:
    """What the workers measure."""
    from got_core.doctor.gpu import check_gpus

    return check_gpus(_training())


def _training() -> Any:
    """A training of this project, with the manifest if there is one."""
    import polars as pl

    from got_assets.cli.project import open_project
    from got_assets.defs.train.assets import make_run
    from got_core.corpus.schemas import polars_schema
    from got_core.curate.schemas import MANIFEST

    project = open_project()
    name = "training_manifest"
    there = project.storage.exists(f"{name}.parquet")
    manifest = project.storage.read_table(name) if there else pl.DataFrame(schema=polars_schema(MANIFEST))
    return make_run(project, manifest, {})


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Such as bench_ingest. Not given: all.")
    ] = None,
) -> None:
    """Run the benchmarks of speed and memory; needs a source checkout."""
    from got_assets.project import ROOT

    if not (ROOT / "bench" / "run.py").is_file():
        raise FileNotFoundError(
            "the installed package has no benchmarks: clone the repository, and run `make bench` there"
        )
    sys.path.insert(0, str(ROOT))
    from bench import run

    with usage_errors():
        run.check_names(names or [])
    run.run(names or [])
