"""`got run`: brings the whole graph up to date, asset by asset, and makes nothing twice.

Belongs here: the order of work on one machine and what is said on the terminal. Does not belong here: what is
stale (`staleness`) or how anything is made (the assets). With the daemon running, sensors, schedule and
jobs do the same work without this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg

from got_assets.definitions import defs
from got_assets.defs.ingest.jobs import EDIT_STEPS, IMAGE_STEPS
from got_assets.defs.ingest.partitions import EDIT_SHARDS, IMAGE_SHARDS, add_partitions
from got_assets.defs.lists.sources import observe_lists
from got_assets.defs.train.jobs import RETRAIN_ASSETS
from got_assets.event_log import TO_RETRY
from got_assets.history_files import quick_files
from got_assets.home import prepare_dagster_home
from got_assets.interrupts import is_interrupt, keep_interrupts_from_capture
from got_assets.leasing import CORPUS, corpus_leases, free_ones_first
from got_assets.meter import Meter
from got_assets.orphans import fail_orphans
from got_assets.outcomes import nothing_passes
from got_assets.pools import shards_at_once
from got_assets.project import PROJECT, Project
from got_assets.quiet import quiet_libraries
from got_assets.reporting import log_progress
from got_assets.run_estimate import begins, say_estimate, write_record
from got_assets.run_report import (
    heading,
    missing_annotator,
    print_phases,
    print_stages,
    report,
    report_failures,
)
from got_assets.runner import MODELS, QUIET, Runner
from got_assets.scored import check_benchmarks
from got_assets.staleness import Staleness
from got_assets.workers import Task, Workers
from got_core.curate.takedown import read_takedowns
from got_core.filesystems import StoreUnavailableError
from got_core.leases import LeaseHeld
from got_core.train.stage import check_start

__all__ = [
    "EDIT_SHARDS",
    "EDIT_STEPS",
    "IMAGE_SHARDS",
    "IMAGE_STEPS",
    "PROJECT",
    "QUIET",
    "RETRAIN_ASSETS",
    "Runner",
    "Staleness",
    "assign_shards",
    "defs",
    "main",
    "make_data",
    "nothing_passes",
    "render_corpus",
    "report_failures",
    "run",
]

PLAN = "training_plan"
LOOKING = "looking"
"""The phase of finding out what there is, and of saying it."""
_PICTURES = 2000
"""Rendered pictures between two lines about them."""
Steps = tuple[str, ...]


def render_corpus(project: Project, workers: Workers | None = None, wait: bool = True) -> None:
    """Write the scenes corpus as plain files, unless it is there; in `workers`, where given.

    One process of a home at a time does. `wait`: for another one that does; if not, LeaseHeld is raised.
    """
    from got_core.scenes.corpus import write_corpus

    settings, recipe = project.settings, project.recipe
    assert settings.edits_url and settings.truth_url
    with corpus_leases(project, "got run").held(CORPUS, wait=wait):
        counts = write_corpus(
            recipe.world,
            recipe.corpus,
            Path(settings.raw_url),
            Path(settings.edits_url).parent,
            Path(settings.truth_url),
            progress=_logger_of_pictures(),
            each=(lambda parts: workers.calls([part.write for part in parts])) if workers else None,
        )
    log_progress(
        f"{counts['images']} images and {counts['edits']} edit pairs, {counts['written']} files written"
    )


def _logger_of_pictures() -> Callable[[int, int], None]:
    """Logs how many pictures are written, after some thousand and at the end."""
    last = [0]

    def progress(done: int, total: int) -> None:
        if done - last[0] >= _PICTURES or done == total:
            last[0] = done
            log_progress(f"{done} of {total} pictures")

    return progress


def assign_shards(project: Project, instance: dg.DagsterInstance) -> tuple[list[str], list[str]]:
    """List raw files and pairs into shards, each a partition. Returns all names of both kinds."""
    from got_core.corpus.shards import assign_edit_shards, assign_image_shards

    settings, config = project.settings, project.recipe.ingest
    options = settings.fs_options(settings.raw_url)
    images = assign_image_shards(project.storage, settings.raw_url, config, options)
    edits: list[str] = []
    if settings.edits_url:
        options = settings.fs_options(settings.edits_url)
        edits = assign_edit_shards(project.storage, settings.edits_url, config, options)
    add_partitions(instance, str(IMAGE_SHARDS.name), images)
    add_partitions(instance, str(EDIT_SHARDS.name), edits)
    observe_lists(project, instance)
    return images, edits


def bring_shards_up_to_date(
    runner: Runner, workers: Workers, shards: Mapping[Steps, Sequence[str]], again: Mapping[str, str]
) -> None:
    """Look at many shards together; those that need something get a run each, several at once.

    `shards`: by the steps that are theirs. `again`: shards whose first asset is made in any case, and why.
    """
    tasks = []
    for steps, names in shards.items():
        for shard, outcome, batch in runner.outcomes_and_needs(steps, names):
            runner.outcomes[shard] = outcome
            if batch or shard in again:
                tasks.append((steps, shard, again.get(shard, "")))
    paused = runner.paused
    for _ in _worked_on(runner, workers, tasks):
        if runner.paused and not paused:
            paused = runner.paused
            log_progress(f"annotation pauses: {paused.message}")


def _worked_on(runner: Runner, workers: Workers, tasks: list[tuple[Steps, str, str]]) -> Iterator[str]:
    """Shards, as they were brought up to date: first those that no other process works on."""
    if min(workers.count, len(tasks)) < 2:
        work = {shard: (steps, why) for steps, shard, why in tasks}

        def bring(shard: str, wait: bool) -> None:
            runner.bring_up_to_date(work[shard][0], shard, work[shard][1], wait)

        yield from free_ones_first(work, bring, runner.wait)
        return
    busy: dict[str, str] = {}
    yield from _by_workers(runner, workers, tasks, False, busy)
    held, last = [task for task in tasks if task[1] in busy], dict[str, str]()
    yield from _by_workers(runner, workers, held, runner.wait, last)
    if last:
        raise LeaseHeld(next(iter(last.values())))


def _by_workers(
    runner: Runner, workers: Workers, tasks: list[tuple[Steps, str, str]], wait: bool, busy: dict[str, str]
) -> Iterator[str]:
    """Shards, as processes have brought them up to date; into `busy`, by name, who works on others."""
    # Made as processes get free, so that a pause counts from the next shard on.
    left = (Task(steps, shard, why, runner.paused, wait) for steps, shard, why in tasks)
    for task, answer in workers.work(left, len(tasks)):
        if answer.held:
            busy[task.shard] = answer.held
            continue
        runner.outcomes[task.shard] = answer.outcome
        runner.pause(answer.paused)
        yield task.shard


def make_data(runner: Runner, parallel: int = 1) -> set[str]:
    """Bring raw images and all tables of every shard up to date. Returns the names of all shards.

    `parallel`: shards at once, where other processes can open the instance.

    URLs that failed in an earlier run are asked again. All shards are ingested before the first is annotated,
    which may cost money: `PLAN` in between says whether the mixtures of all stages can be drawn, and where it
    fails nothing is annotated.
    """
    shared = runner.instance.is_persistent
    with Workers(runner.instance.get_ref, parallel if shared else 1) as workers:
        if not runner.project.settings.own_images:
            heading("Raw images (rendered scenes)")
            with runner.meter.phase("rendering"):
                render_corpus(runner.project, workers, runner.wait)
        with runner.meter.phase("listing"):
            images, edits = assign_shards(runner.project, runner.instance)
        heading(f"Data: {len(images)} image shards, {len(edits)} edit shards")
        say_passed_over(runner.project)
        if not images and not edits:
            url = runner.project.settings.raw_url
            raise FileNotFoundError(f"{url} holds nothing that is read as pictures; set GOT_RAW to what does")
        with runner.meter.phase("ingestion"):
            again = urls_to_ask_again(runner, images)
            bring_shards_up_to_date(runner, workers, {IMAGE_STEPS[:1]: images, EDIT_STEPS[:1]: edits}, again)
            observe_lists(runner.project, runner.instance)  # what is in the shards before it is worked on
        if runner.project.settings.annotator_name is not None and not runner.bring_up_to_date([PLAN]).error:
            with runner.meter.phase("annotation"):
                annotate(runner, workers, images, edits)
    return {*images, *edits}


def data_is_made(runner: Runner) -> bool:
    """Do the data part; False where nothing can be trained after it, which is said."""
    make_data(runner, shards_at_once(runner.project.settings))
    if runner.paused:
        report_failures(runner.outcomes, runner.paused)
    elif runner.project.settings.annotator_name is None:
        print(missing_annotator(runner.project), flush=True)
    else:
        return True
    return False


def urls_to_ask_again(runner: Runner, shards: list[str]) -> dict[str, str]:
    """Shards with URLs that failed for a reason that may pass, with the words for it."""
    from got_core.corpus.ingest import urls_to_retry

    records = runner.log.partitions(IMAGE_STEPS[0], shards)
    figures = {shard: one.figures for shard, one in records.items()}
    rejected = [shard for shard, one in figures.items() if one.get(TO_RETRY, one.get("rows_rejected", 1))]
    counts = {shard: urls_to_retry(runner.project.storage, shard) for shard in rejected}
    return {shard: f"{count} URLs to ask again" for shard, count in counts.items() if count}


def annotate(runner: Runner, workers: Workers, images: list[str], edits: list[str]) -> None:
    """Bring all tables of the ingested shards up to date."""
    ingested = dict(runner.outcomes)
    whole = {
        steps: [shard for shard in shards if not ingested[shard].error]
        for steps, shards in ((IMAGE_STEPS, images), (EDIT_STEPS, edits))
    }
    bring_shards_up_to_date(runner, workers, whole, {})
    for shard in (*whole[IMAGE_STEPS], *whole[EDIT_STEPS]):
        outcome = runner.outcomes[shard]
        outcome.made = [*ingested[shard].made, *outcome.made]


def say_passed_over(project: Project) -> None:
    """What lies beside the pictures and is no input."""
    from got_core.corpus.shards import passed_over
    from got_core.corpus.sieve import counts_text

    if counts := passed_over(project.storage):
        log_progress(
            f"passed over, no pictures by their names (IngestConfig.pictures): {counts_text(counts)}"
        )


def run(project: Project, instance: dg.DagsterInstance, wait: bool = True) -> int:
    """The whole graph. Returns 0, or 1 if something failed: a step, or the check of every shard of a kind.

    One shard that is stopped among others is no failure. Another process that works on the same is waited
    for; without `wait`, LeaseHeld is raised once nothing else of the kind is left to do.
    """
    meter = Meter.since_start()
    if project.settings.annotator_name is not None:  # else nothing is trained
        check_start(project.recipe.stages, project.settings.weights)
        project.check_foundation()
        check_benchmarks(project)
    fresh = begins(project)
    expected = say_estimate(project, log_progress) if fresh else None
    with meter.phase(LOOKING):
        runner = Runner(project, instance, wait=wait, meter=meter)
    shards = make_data(runner, shards_at_once(project.settings))
    planned = runner.outcomes.get(MODELS)
    if planned is not None and not planned.error and not runner.paused:
        heading("Models")
        outcome = runner.bring_up_to_date(RETRAIN_ASSETS)
        outcome.made = [*planned.made, *outcome.made]
    elif not read_takedowns(project.storage).is_empty():
        outcome = runner.bring_up_to_date(("taken_down",))
        outcome.error = (planned.error if planned else "") or outcome.error
    heading("What came out")
    with meter.phase(LOOKING):
        print_stages(runner.log, runner.nodes, shards)
        report(project, runner.outcomes, runner.paused)
    print_phases(meter)
    made = sum(len(outcome.made) for outcome in runner.outcomes.values())
    log_progress(
        f"{made} tables, models and reports made, the rest was up to date; {meter.elapsed:.0f} s, "
        f"{meter.cores_busy:.1f} of {meter.cores} cores busy"
    )
    if expected:
        log_progress(
            f"the estimate was {expected:.0f} s: it took {meter.elapsed / expected:.2f} times as long"
        )
    failed = any(outcome.error for outcome in runner.outcomes.values())
    failed = failed or bool(runner.paused) or nothing_passes(runner.outcomes)
    if fresh and not failed:
        write_record(project, meter)
    return int(failed)


def main(work: Callable[[Project, dg.DagsterInstance], int] = run) -> int:
    """Do some work on this process's project; the exit status."""
    quiet_libraries()
    try:
        home = prepare_dagster_home(PROJECT)
        with quick_files(home), dg.DagsterInstance.get() as instance:
            keep_interrupts_from_capture(instance)
            fail_orphans(instance, PROJECT)
            return work(PROJECT, instance)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError, Exception) as error:
        if is_interrupt(error):
            sys.stderr.write("\ninterrupted; run it again to go on from here\n")
            return 130
        if isinstance(error, OSError | ValueError | StoreUnavailableError | LeaseHeld):
            sys.stderr.write(f"\n{error}\n")
            return 1
        raise
