"""A whole rehearsal: servers, pictures in the bucket, the graph through the page, servers killed under load.

Belongs here: the order. Not here: servers (`cluster`), the page (`page`), what has to be equal (`results`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deployments.cluster_rehearsal import alone
from deployments.cluster_rehearsal.cluster import BUCKET, ORDER, Cluster, cluster
from deployments.cluster_rehearsal.machines import ServerError
from deployments.cluster_rehearsal.page import Page, PageError, Run
from deployments.cluster_rehearsal.restore import back_up, put_back
from deployments.cluster_rehearsal.results import (
    Results,
    bucket,
    different,
    results,
    storage_of,
    upload,
)
from got_assets.leasing import process_of
from got_core.recipes import get_recipe

RECIPE = "tiny"
SETTINGS = {
    "GOT_RECIPE": RECIPE,
    "GOT_WORKERS": "2",
    "GOT_RAW": f"s3://{BUCKET}/raw/images",
    "GOT_EDITS": f"s3://{BUCKET}/raw/edits/pairs.csv",
    "GOT_ANNOTATOR": "scenes",
    "GOT_RETRY_DELAY": "2",
    "GOT_RETRIES": "5",
}
SENSORS = ("watch_raw_images", "watch_edit_pairs")
SCHEDULE = "retrain_weekly"
MONDAY = 1_767_582_000.0
"""A moment at which the schedule ticks: 2026-01-05 03:00 UTC."""
RUN_WORKER = "run worker"
KILLED = (RUN_WORKER, "daemon", "code", "postgres", "s3", "mlflow", "ray-1", "ray-head")
"""What is killed, in turn."""
SHORT = (RUN_WORKER,)
"""The same in the short form."""
_RESTART = 1.0


@dataclass
class Walked:
    """What a rehearsal did."""

    seconds: dict[str, float] = field(default_factory=dict)
    """By part, in order."""
    found: list[tuple[str, str]] = field(default_factory=list)
    """What was looked at, and what was there."""


def walk(folder: Path, *, short: bool, namespaces: bool, say: Callable[[str], None] = print) -> Walked:
    """Rehearse below an empty folder.

    Raises PageError, ServerError or AssertionError, whose message says what was seen and what was expected.
    """
    walked, clock = Walked(), _Clock()
    inputs = alone.inputs(folder / "inputs", get_recipe(RECIPE))
    say(f"rehearsal of a cluster in {folder}, {'namespaces' if namespaces else 'loopback addresses'}")
    with cluster(folder, namespaces=namespaces, settings=SETTINGS, say=say) as servers:
        walked.seconds["servers"] = clock.lap()
        bucket(servers)
        upload(servers, inputs)
        with kept_up(servers, say):
            page = Page(servers.url("webserver"))
            shards = _data(page, say)
            walked.seconds["shards by sensors"] = clock.lap()
            walked.found.append(("shards made by sensors", ", ".join(shards)))
            _backfilled(page, shards)
            walked.seconds["backfill"] = clock.lap()
            walked.found.append(("schedule, then retraining", _retrained(page)))
            walked.seconds["retraining"] = clock.lap()
            first = results(servers)
            for victim in SHORT if short else KILLED:
                seconds = _killed(servers, page, victim, shards, say)
                walked.seconds[f"{victim} killed, to the end"] = clock.lap()
                walked.found.append((f"{victim} killed: runs go on after", f"{seconds:.0f} s"))
                _same(first, results(servers), f"after {victim} was killed")
            if not short:
                back_up(servers, folder / "back-up")
                walked.seconds["back-up"] = clock.lap()
    if not short:
        walked.found += _restored(folder, first, namespaces, say)
        walked.seconds["restored in an empty cluster"] = clock.lap()
        _same(alone.run(folder / "alone", inputs, SETTINGS), first, "beside `got run` on one machine")
        walked.seconds["got run on one machine"] = clock.lap()
    walked.found.append(("tables, manifest and weights", f"equal throughout: {first.summary()}"))
    return walked


def _restored(
    folder: Path, expected: Results, namespaces: bool, say: Callable[[str], None]
) -> list[tuple[str, str]]:
    """A cluster in an empty folder, from the back-up: nothing is made again, and the champion draws."""

    def started(name: str, servers: Cluster) -> None:
        put_back(name, servers, folder / "back-up")

    say("  an empty cluster goes on from the back-up")
    with cluster(
        folder / "restored", namespaces=namespaces, settings=SETTINGS, say=say, started=started
    ) as servers:
        page = Page(servers.url("webserver"))
        _same(expected, results(servers), "in the restored cluster")
        asked = page.evaluate_schedule(SCHEDULE, MONDAY)
        if asked["runRequests"]:
            raise PageError(f"the restored cluster would retrain: {asked['runRequests']}")
        drawn = _predicted(servers, folder / "inputs" / "images")
    return [("restored from the back-up", f"nothing is made again; {drawn}")]


def _predicted(servers: Cluster, pictures: Path) -> str:
    """What a program outside draws with the champion."""
    source = str(next(pictures.rglob("*.png")))
    uri = servers.environment["GOT_MLFLOW_URI"]
    done = subprocess.run(
        [sys.executable, "-m", "deployments.rehearsal.predict", uri, "models:/got@champion", source],
        env=servers.environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"the champion does not draw: {done.stderr[-3000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["errors"] or not answer["sizes"]:
        raise AssertionError(f"the champion answers {answer}")
    return f"the champion draws pictures of {answer['sizes']} pixels"


class _Clock:
    """Seconds from one lap to the next."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        self._since, last = now, self._since
        return now - last


def _same(expected: Results, found: Results, when: str) -> None:
    """Raise AssertionError where results are not equal, naming those that differ."""
    if wrong := different(expected, found):
        raise AssertionError(f"{when} these results are others: {', '.join(wrong)}")


# -- the graph through the page -----------------------------------------------------------------------


def _data(page: Page, say: Callable[[str], None]) -> list[str]:
    """Switch the sensors on and wait for the shards that they find."""
    for name in SENSORS:
        page.start_sensor(name)
    for name in SENSORS:
        tick = page.until(lambda name=name: ticked(page, name), f"a tick of sensor {name}")
        say(f"  sensor {name}: {len(tick['runIds'])} runs")
    runs = page.wait_for_all(least=3)
    return sorted({one.tags["dagster/partition"] for one in runs if "dagster/partition" in one.tags})


def ticked(page: Page, name: str) -> dict | None:
    for tick in page.ticks(name):
        if tick["error"]:
            raise PageError(f"sensor {name}: {tick['error']['message']}")
        if tick["status"] == "SUCCESS":
            return tick
    return None


def _images(shards: list[str]) -> list[str]:
    return [shard for shard in shards if shard.startswith("images-")]


def _backfilled(page: Page, shards: list[str]) -> None:
    """Materialize the steps of all image shards again."""
    from got_assets.defs.ingest.jobs import IMAGE_STEPS

    page.wait_for_backfill(page.backfill(IMAGE_STEPS, _images(shards)))
    page.wait_for_all()


def _retrained(page: Page) -> str:
    """Ask the schedule, launch what it asks for, and ask again: then it has nothing to do."""
    asked = page.evaluate_schedule(SCHEDULE, MONDAY)
    if not asked["runRequests"]:
        raise PageError(f"schedule {SCHEDULE} skips without a model: {asked['skipReason']}")
    tags = {tag["key"]: tag["value"] for tag in asked["runRequests"][0]["tags"]}
    page.wait_for_run(page.launch("retrain", {"got/why": tags["got/why"]}))
    again = page.evaluate_schedule(SCHEDULE, MONDAY)
    if again["runRequests"]:
        raise PageError(f"schedule {SCHEDULE} would retrain again at once: {again['runRequests']}")
    return f"{tags['got/why'][:60]}...; then: {again['skipReason']}"


# -- servers that end ---------------------------------------------------------------------------------


@contextmanager
def kept_up(servers: Cluster, say: Callable[[str], None]) -> Iterator[None]:
    """Start servers again that have ended, as `restart: always` does."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_RESTART):
            for name in ORDER:
                server = servers.servers[name]
                if over.is_set() or server.is_alive():
                    continue
                try:
                    server.start()
                except ServerError as error:  # what it needs is not there yet
                    say(f"  {str(error).splitlines()[0]}; it is tried again")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=310)


def _killed(
    servers: Cluster, page: Page, victim: str, shards: list[str], say: Callable[[str], None]
) -> float:
    """Kill one under the load that it matters to, and wait for the end; seconds until a run ended again."""
    known = {one.id for one in page.runs()}
    if victim in ("mlflow", "ray-1", "ray-head"):
        forget_models(servers)
        page.launch("retrain")
    else:
        _launch_shards(page, shards)
    run = page.until(lambda: _at_work(page, known), "a run at work")
    say(f"  {victim} is killed while run {run.id[:8]} of {run.job} is at work")
    began = time.monotonic()
    if victim == RUN_WORKER:
        process = process_of(run.tags)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    else:
        servers.servers[victim].kill()
    ended = {one.id for one in page_runs(page) if one.status == "SUCCESS"}
    page.until(lambda: _another_ended(page, ended), f"a run after {victim} was killed")
    seconds = time.monotonic() - began
    page.wait_for_all(least=len(known) + 1)
    return seconds


def _launch_shards(page: Page, shards: list[str]) -> None:
    from got_assets.defs.ingest.jobs import IMAGE_STEPS

    page.backfill(IMAGE_STEPS, _images(shards))


def _at_work(page: Page, known: set[str]) -> Run | None:
    """A new run whose process has noted itself."""
    for one in page.runs(statuses=["STARTED"]):
        if one.id not in known and process_of(one.tags):
            return one
    return None


def page_runs(page: Page) -> list[Run]:
    """Runs, as soon as the page answers."""
    return page.until(page.runs, "the page")


def _another_ended(page: Page, ended: set[str]) -> bool | None:
    return any(one.status == "SUCCESS" and one.id not in ended for one in page.runs()) or None


def forget_models(servers: Cluster) -> None:
    """Remove what stages have trained, so that the next retraining trains again: to the same weights."""
    storage = storage_of(servers)
    for stage in get_recipe(RECIPE).stages:
        storage.delete(f"models/{stage.name}")
