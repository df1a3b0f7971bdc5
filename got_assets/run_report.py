"""What `got run` prints at its end: the table of stages, what stopped or failed, scores, where to look next.

Belongs here: text for the terminal. Not here: the numbers of stages (`summary`), the order of work (`run`).
"""

from __future__ import annotations

from collections.abc import Mapping

from got_assets.defs.ingest.jobs import EDIT_STEPS, IMAGE_STEPS
from got_assets.defs.train.jobs import RETRAIN_ASSETS
from got_assets.event_log import EventLog
from got_assets.meter import Meter, Phase
from got_assets.needs import Node
from got_assets.outcomes import Outcome, nothing_passes, waiting
from got_assets.pauses import Pause
from got_assets.project import PROJECT, Project
from got_assets.reporting import log_progress
from got_assets.summary import stage_rows
from got_assets.tables import score_table, text_table
from got_core.curate.takedown_lists import COPIES_PAGE
from got_core.storage import Storage

_WHILE = 1.0
"""Seconds from which on a phase has a row of its own."""


def print_stages(log: EventLog, nodes: Mapping[str, Node], partitions: set[str]) -> None:
    """The table of stages."""
    rows = stage_rows(log, nodes, [*IMAGE_STEPS, *EDIT_STEPS, *RETRAIN_ASSETS], partitions)
    cells = [(row.stage, row.rows_in, row.rows_out, row.rejected, f"{row.seconds:.1f}") for row in rows]
    print(text_table(["stage", "rows in", "rows out", "rejected", "seconds"], cells), "\n", flush=True)


def print_phases(meter: Meter) -> None:
    """What took the time of a run, in order, and how many cores were busy; only what took a while."""
    long = [one for one in meter.phases.values() if one.seconds >= _WHILE]
    rest = Phase("everything else", meter.elapsed - sum(one.seconds for one in long))
    rest.cpu_seconds = meter.cpu_seconds - sum(one.cpu_seconds for one in long)
    rows = [(one.name, f"{one.seconds:.0f}", f"{one.cores_busy:.1f}") for one in (*long, rest)]
    print(text_table(["time", "seconds", f"of {meter.cores} cores busy"], rows), "\n", flush=True)


def report(project: Project, outcomes: Mapping[str, Outcome], paused: Pause | None = None) -> None:
    """What was blocked or failed, the scores, and where to look next."""
    report_failures(outcomes, paused)
    if project.settings.annotator_name is None and not nothing_passes(outcomes):
        print(missing_annotator(project), flush=True)
    print_scores(project)
    print_stage_scores(project)
    if training := training_line(project.storage):
        log_progress(training)
    where_next(project)


def report_failures(outcomes: Mapping[str, Outcome], paused: Pause | None = None) -> None:
    """What was blocked by a failed check, what failed, and how many wait for what could not be asked."""
    for name, outcome in outcomes.items():
        for asset, said in outcome.failed.items():
            log_progress(f"{name} stops here: {asset} fails its check: {said} (see `make ui`)")
        stops = dict.fromkeys(p for p in outcome.blocked.values() if p not in outcome.failed)
        for parent in stops:
            log_progress(f"{name} stops here: {parent} is missing or was not checked")
        if outcome.error:
            log_progress(f"{name} FAILED: {outcome.error}")
    if paused:
        shards = waiting(outcomes)
        log_progress(f"PAUSED: {paused.message}")
        log_progress(f"{shards} shards wait for the {paused.what}, and models for them; then run it again")


def missing_annotator(project: Project) -> str:
    """What own images need before anything beyond ingestion can run."""
    return (
        f"\nIngestion of {project.settings.raw_url} is done.\n"
        "The rest needs an annotator that can read such pictures; none is configured: set GOT_ANNOTATOR\n"
        "(openai: models behind a server; imported: chains of a data set, got data import).\n"
        "The scene reader (GOT_ANNOTATOR=scenes) reads rendered scenes only:\n"
        "it refuses photographs, it does not guess.\n"
    )


def print_scores(project: Project) -> None:
    """The benchmark scores of the current model, those that there are."""
    if project.settings.annotator_name is None:
        return
    for name in project.recipe.evaluate.assets:
        if project.storage.exists(f"{name}.json"):
            print(score_table(project.storage.read_json(f"{name}.json")["scores"]), "\n", flush=True)


def print_stage_scores(project: Project) -> None:
    """What each stage added, where that was measured for the current model."""
    if not project.recipe.evaluate.stage_requests or not project.storage.exists("stage_scores.json"):
        return
    from got_core.evaluate.stages.figures import HEADER, spelled

    for name, one in project.storage.read_json("stage_scores.json")["benchmarks"].items():
        print(text_table([f"{name}: stage", *HEADER[1:]], spelled(one)), "\n", flush=True)


def training_line(storage: Storage) -> str | None:
    """CPU-seconds of the training behind the current model; None while there is none."""
    stages = (
        ("foundation", "foundation_models"),
        *((stage.title, stage.asset) for stage in PROJECT.recipe.stages),
    )
    if not all(storage.exists(f"{name}.json") for _, name in stages):
        return None
    spent = {stage: storage.read_json(f"{name}.json")["cpu_seconds"] for stage, name in stages}
    parts = ", ".join(f"{part} {seconds:,.0f}" for part, seconds in spent.items())
    return f"training  {sum(spent.values()):,.0f} CPU-seconds ({parts})"


def where_next(project: Project) -> None:
    """Places to look at, those that exist."""
    storage = project.storage
    if storage.exists("benchmark_report.html"):
        log_progress(f"report    {storage.url_of('benchmark_report.html')}")
    if storage.exists("promoted_model.json"):
        decision = storage.read_json("promoted_model.json")
        log_progress(
            f"registry  models:/got@champion is version {decision['champion']} ({decision['reason']})"
        )
    if storage.exists(COPIES_PAGE):
        log_progress(
            f"takedown  pictures that may be copies wait for a verdict: {storage.url_of(COPIES_PAGE)}"
        )
    log_progress(f"storage   {project.settings.storage_url}")
    log_progress("make ui   the graph, every table's numbers and pictures, and the losses in MLflow")


def heading(text: str) -> None:
    """A line that begins a part of the output."""
    print(f"\n{text}", flush=True)
