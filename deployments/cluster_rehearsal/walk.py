"""A whole rehearsal: servers, pictures in the bucket, the graph through the page, servers killed under load.

Belongs here: the order. Not here: servers (`cluster`), the page (`page`), one kill (`kills`), what has to be
equal (`results`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deployments.cluster_rehearsal import alone, firewall, kills, probe, proxy
from deployments.cluster_rehearsal.cluster import Cluster, Secrets, cluster
from deployments.cluster_rehearsal.commands import BUCKET
from deployments.cluster_rehearsal.kills import Kill
from deployments.cluster_rehearsal.page import Page, PageError
from deployments.cluster_rehearsal.restore import back_up, put_back
from deployments.cluster_rehearsal.results import (
    TABLES,
    Results,
    asked,
    different,
    results,
    upload,
    written,
)
from got_core.recipes import get_recipe

RECIPE = "tiny"
SETTINGS = {
    "GOT_RECIPE": RECIPE,
    "GOT_WORKERS": "2",
    "GOT_RAW": f"s3://{BUCKET}/raw/images",
    "GOT_TRUTH": f"s3://{BUCKET}/raw/truth.parquet",
    "GOT_EDITS": f"s3://{BUCKET}/raw/edits/pairs.csv",
    "GOT_RETRY_DELAY": "2",
    "GOT_RETRIES": "5",
}
SENSORS = ("watch_raw_images", "watch_edit_pairs")
SCHEDULE = "retrain_weekly"
MONDAY = 1_767_582_000.0
"""A moment at which the schedule ticks: 2026-01-05 03:00 UTC."""


@dataclass
class Walked:
    """What a rehearsal did."""

    seconds: dict[str, float] = field(default_factory=dict)
    """By part, in order."""
    found: list[tuple[str, str]] = field(default_factory=list)
    """What was looked at, and what was there."""
    kills: list[Kill] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    def lap(self, part: str) -> None:
        """A part is over."""
        now = time.monotonic()
        self.seconds[part], self._since = now - self._since, now


def walk(folder: Path, *, short: bool, namespaces: bool, say: Callable[[str], None] = print) -> Walked:
    """Rehearse below an empty folder.

    Raises PageError, ServerError or AssertionError, whose message says what was seen and what was expected.
    """
    walked, own = Walked(), Secrets()
    in_data = [one for one in kills.IN_DATA if one in kills.SHORT or not short]
    inputs = alone.inputs(folder / "inputs", get_recipe(RECIPE), 1 + len(in_data))
    say(f"rehearsal of a cluster in {folder}, {'namespaces' if namespaces else 'loopback addresses'}")
    with cluster(folder, namespaces=namespaces, settings=SETTINGS, own=own, say=say) as servers:
        walked.lap("servers")
        walked.found += ports(servers)
        walked.lap("ports")
        say("\n".join(f"  {what}: {seen}" for what, seen in walked.found))
        with kills.kept_up(servers, say):
            rehearsal = _Rehearsal(servers, page_of(servers), inputs, walked, say)
            rehearsal.data(in_data)
            first = rehearsal.training()
            if not short:
                rehearsal.trainings_killed(first)
        if not short:
            back_up(servers, folder / "back-up")
            walked.lap("back-up")
    walked.lap("servers ended")
    if not short:
        walked.found += _restored(folder, first, own, namespaces, say)
        walked.lap("restored in an empty cluster")
    walked.found.append(("tables, manifest and weights", f"equal throughout: {first.summary()}"))
    return walked


@dataclass(frozen=True)
class _Rehearsal:
    """What is done with a cluster that has been started."""

    servers: Cluster
    page: Page
    inputs: alone.Inputs
    walked: Walked
    say: Callable[[str], None]

    def data(self, victims: list[str]) -> None:
        """A shard by sensors, the same again by a backfill, and a new one for each that is killed."""
        upload(self.servers, self.inputs, [*self.inputs.images(0), *self.inputs.edits, self.inputs.truth])
        shards = _data(self.page, self.say)
        self.walked.found.append(("shards made by sensors", ", ".join(shards)))
        self.walked.lap("shards by sensors")
        _backfilled(self.servers, self.page, shards)
        self.walked.lap("backfill")
        for number, victim in enumerate(victims, start=1):
            new = partial(_new_shard, self.servers, self.page, self.inputs, number)
            self._note(kills.in_data(self.servers, self.page, victim, new))
        self.walked.found.append(("annotator", _asked(self.servers)))

    def training(self) -> Results:
        """The schedule, with `got run` of the same beside it: waits leave a core for that."""
        with self._alone() as beside:
            self.walked.found.append(("schedule, then retraining", _retrained(self.page)))
            found = results(self.servers)
            self.walked.lap("retraining, `got run` beside it")
            _same(beside(), found, "beside `got run` alone")
            self.walked.lap("the rest of `got run`")
        return found

    def trainings_killed(self, found: Results) -> None:
        """A training for each that is killed meanwhile; all come to what was found."""
        for victim in kills.IN_TRAINING:
            self._note(kills.in_training(self.servers, self.page, victim))
            _same(found, results(self.servers), f"after {victim} was killed")

    def _alone(self) -> AbstractContextManager[Callable[[], Results]]:
        return alone.running(self.servers.folder / "alone", self.inputs, _of_one(self.servers))

    def _note(self, kill: Kill) -> None:
        self.walked.kills.append(kill)
        self.walked.lap(f"{kill.load}, {kill.victim} killed")
        self.say(
            f"  {kill.victim} killed: at work after {kill.at_work:.0f} s, ended well after {kill.ended:.0f} s"
        )


def _of_one(servers: Cluster) -> dict[str, str]:
    """Settings of the same recipe on one machine: it asks the cluster's annotator, too."""
    asks = {name: value for name, value in servers.environment.items() if name.startswith("GOT_ANNOTATOR")}
    return SETTINGS | asks


def _asked(servers: Cluster) -> str:
    """What the annotator was asked."""
    found = asked(servers)
    return (
        f"{found['answered']} answers, {found['again']} to what was under way when its process was killed, "
        f"{found['lost']} that nobody took any more"
    )


def page_of(servers: Cluster) -> Page:
    """Dagster's page, as somebody who may start runs."""
    return Page(servers.page, person=servers.person, certificate=servers.certificate)


def ports(servers: Cluster) -> list[tuple[str, str]]:
    """Who reaches what, and what servers say to whoever has no credentials. Raises AssertionError."""
    found = [("without credentials", probe.check(servers))]
    if any(one.namespace for one in servers.hosts.values()):
        found.append(("ports", firewall.check(servers.hosts)))
    else:
        found.append(("ports", "not looked at: without namespaces no rules can be made"))
    return found


def _restored(
    folder: Path, expected: Results, own: Secrets, namespaces: bool, say: Callable[[str], None]
) -> list[tuple[str, str]]:
    """A cluster in an empty folder, from the back-up: nothing is made again, and the champion draws."""

    def started(name: str, servers: Cluster) -> None:
        put_back(name, servers, folder / "back-up")

    say("  an empty cluster goes on from the back-up")
    with cluster(
        folder / "restored", namespaces=namespaces, settings=SETTINGS, own=own, say=say, started=started
    ) as servers:
        page = page_of(servers)
        _same(expected, results(servers), "in the restored cluster")
        asked = page.evaluate_schedule(SCHEDULE, MONDAY)
        if asked["runRequests"]:
            raise PageError(f"the restored cluster would retrain: {asked['runRequests']}")
        drawn = _predicted(servers, folder / "inputs" / "images")
        made = _only_last_stage(servers, page)
        _same(expected, results(servers), "retrained in the restored cluster")
    return [
        ("restored from the back-up", f"nothing is made again; {drawn}"),
        ("retraining there, the last stage's model removed", made),
    ]


def _only_last_stage(servers: Cluster, page: Page) -> str:
    """Retrain without the last stage's model, which is what has changed: no other is made again, nor any
    shard. Raises AssertionError naming what is."""
    before = written(servers)
    stage = kills.forget_model(servers)
    page.wait_for_run(page.launch("retrain"))
    made = {name for name, when in written(servers).items() if before.get(name) != when}
    models = {name.split("/")[1] for name in made if name.startswith("models/")}
    shards = sorted(name for name in made if name.partition("/")[0] in TABLES)
    if models != {get_recipe(RECIPE).stages[-1].name} or shards:
        raise AssertionError(f"without {stage} these are made again: {sorted(models)}, {shards}")
    return f"of models {stage} is made again, and nothing of a shard"


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
    runs = page.wait_for_all(least=2)
    return sorted({one.tags["dagster/partition"] for one in runs if "dagster/partition" in one.tags})


def ticked(page: Page, name: str) -> dict | None:
    for tick in page.ticks(name):
        if tick["error"]:
            raise PageError(f"sensor {name}: {tick['error']['message']}")
        if tick["status"] == "SUCCESS":
            return tick
    return None


def _new_shard(servers: Cluster, page: Page, inputs: alone.Inputs, number: int) -> None:
    """Upload another shard of pictures, and launch what the sensor asks for: its tick is minutes away."""
    from got_assets.defs.ingest.jobs import IMAGE_STEPS

    upload(servers, inputs, inputs.images(number))
    ((name, shards),) = page.try_sensor(SENSORS[0]).items()
    for shard in shards:
        page.add_partition(name, shard)
    page.backfill(IMAGE_STEPS, shards)


def _images(shards: list[str]) -> list[str]:
    return [shard for shard in shards if shard.startswith("images-")]


def _backfilled(servers: Cluster, page: Page, shards: list[str]) -> None:
    """Materialize the steps of all image shards again: nothing is asked for it."""
    from got_assets.defs.ingest.jobs import IMAGE_STEPS

    before = asked(servers)
    page.wait_for_backfill(page.backfill(IMAGE_STEPS, _images(shards)))
    page.wait_for_all()
    if asked(servers) != before:
        raise AssertionError(f"a backfill asked the annotator: {before}, then {asked(servers)}")


def _retrained(page: Page) -> str:
    """Ask the schedule, launch what it asks for, and ask again: then it has nothing to do."""
    asked = page.evaluate_schedule(SCHEDULE, MONDAY)
    if not asked["runRequests"]:
        raise PageError(f"schedule {SCHEDULE} skips without a model: {asked['skipReason']}")
    tags = {tag["key"]: tag["value"] for tag in asked["runRequests"][0]["tags"]}
    run = page.wait_for_run(page.launch("retrain", {"got/why": tags["got/why"]}))
    if run.tags.get("got/user") != proxy.PERSON:
        raise PageError(f"the run does not say who asked for it: {run.tags}")
    again = page.evaluate_schedule(SCHEDULE, MONDAY)
    if again["runRequests"]:
        raise PageError(f"schedule {SCHEDULE} would retrain again at once: {again['runRequests']}")
    return f"{tags['got/why'][:60]}...; then: {again['skipReason']}"
