"""Servers killed under load: what the load is, how it is seen that work goes on, and a table of the times.

Belongs here: one kill, and starting servers again as a container engine does. Not here: the order (`walk`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from deployments.cluster_rehearsal.cluster import IN_FLIGHT, ORDER, Cluster
from deployments.cluster_rehearsal.commands import RAY_NODES
from deployments.cluster_rehearsal.machines import ServerError
from deployments.cluster_rehearsal.page import Page, Run
from deployments.cluster_rehearsal.results import asked, storage_of
from got_assets.leasing import process_of
from got_core.recipes import get_recipe

RUN_WORKER = "run worker"
IN_DATA = (RUN_WORKER, "daemon", "code", "postgres", "s3")
"""What is killed, in turn, while a new shard is annotated."""
IN_TRAINING = ("mlflow", "ray-1", "ray-head")
"""What is killed, in turn, while the last stage is trained."""
SHORT = (RUN_WORKER,)
"""Of both in the short form."""
ANSWERS = 10
"""After so many answers about a shard its annotation is under way."""
_RESTART = 1.0
_TRAINING = ("ray::RayTrainWorker", "ray::_one_thread")
"""What processes of Ray that train call themselves."""


@dataclass(frozen=True)
class Kill:
    """What became of one."""

    victim: str
    load: str
    at_work: float
    """Seconds until the work that it was killed in went on."""
    ended: float
    """Seconds until that work had ended well."""
    again: int
    """Requests that were answered a second time: at most those under way when it was killed."""


def table(kills: Iterable[Kill]) -> str:
    """In Markdown."""
    lines = [
        "| killed | while | at work again after | ended well after | asked again |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.victim} | {one.load} | {one.at_work:.0f} s | {one.ended:.0f} s | {one.again} |"
        for one in kills
    ]
    return "\n".join(lines)


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


def in_data(servers: Cluster, page: Page, victim: str, new: Callable[[], Any]) -> Kill:
    """Kill one while the shard of `new` pictures is annotated, and wait until all runs have ended well.

    Raises PageError where they do not, and AssertionError where more is asked again than was under way.
    """
    known = {one.id for one in page.runs()}
    before = asked(servers)
    new()

    def under_way() -> Run | None:
        if asked(servers)["answered"] < before["answered"] + ANSWERS:
            return None
        return next((one for one in page.runs(statuses=["STARTED"]) if one.id not in known), None)

    run = page.until(under_way, "a shard that is annotated")
    began = _kill(servers, victim, run)
    # More than can have been under way.
    there = asked(servers)["answered"] + IN_FLIGHT
    page.until(lambda: asked(servers)["answered"] > there or None, f"answers after {victim} was killed")
    at_work = time.monotonic() - began
    ended = _ended(page, known, began)
    again = asked(servers)["again"] - before["again"]
    if again > IN_FLIGHT:
        raise AssertionError(f"{again} requests were answered again after {victim} was killed")
    return Kill(victim, "a shard is annotated", at_work, ended, again)


def in_training(servers: Cluster, page: Page, victim: str) -> Kill:
    """Kill one while the last stage is trained anew, and wait until it has ended well."""
    known = {one.id for one in page.runs()}
    stage = forget_model(servers)
    page.launch("retrain", assets=[stage])
    page.until(lambda: trains(servers) or None, "a training")
    run = next(one for one in page.runs(statuses=["STARTED"]) if one.id not in known)
    began = _kill(servers, victim, run)
    if victim.startswith("ray-"):
        page.until(lambda: not trains(servers) or None, f"the end of the training that {victim} had part in")
        page.until(lambda: trains(servers) or None, f"a training after {victim} was killed")
    at_work = time.monotonic() - began
    return Kill(victim, f"{stage} is trained", at_work, _ended(page, known, began), 0)


def _kill(servers: Cluster, victim: str, run: Run) -> float:
    """When that was."""
    if victim == RUN_WORKER:
        process = process_of(run.tags)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    else:
        servers.servers[victim].kill()
    return time.monotonic()


def _ended(page: Page, known: set[str], began: float) -> float:
    """Seconds until all runs have ended, one of them new. Raises PageError where one did not end well."""
    page.wait_for_all(least=len(known) + 1)
    return time.monotonic() - began


def trains(servers: Cluster) -> bool:
    """Whether all workers of a training are at work, one on each of Ray's nodes."""
    return all(_trains(servers.servers[name].processes()) for name in RAY_NODES)


def _trains(processes: Iterable[psutil.Process]) -> bool:
    for one in processes:
        try:
            if one.cmdline()[:1] and one.cmdline()[0].startswith(_TRAINING):
                return True
        except (psutil.Error, IndexError):
            continue
    return False


def forget_model(servers: Cluster) -> str:
    """Remove what the last stage has trained, so that it is trained again: to the same weights. Its asset."""
    stage = get_recipe(servers.environment["GOT_RECIPE"]).stages[-1]
    storage_of(servers).delete(f"models/{stage.name}")
    return stage.asset
