"""Checks on every node of a cluster before anything is trained there.

Belongs here: asking all nodes at once, bounded in time. Not here: what is looked at (``train.preflight``).
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from got_core.ray_sessions import ray_session
from got_core.train.data.manifest_file import manifest_of
from got_core.train.machine import Fault, Node, versions
from got_core.train.mixture import groups_of, resolve_stages
from got_core.train.preflight import (
    PreflightError,
    Request,
    error_of,
    faults_of,
    gpu_warning,
    look_at_this_node,
    probe_in,
    refusals,
    request_of,
)
from got_core.train.run import Reference, TrainingRun

SECONDS = 120.0
"""For the answers of all nodes together. A node that has started no Python yet takes some of them."""
THIS_MACHINE = "this machine"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found by node, in words that name the node."""

    nodes: dict[str, Node] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)

    @property
    def error(self) -> PreflightError | None:
        """All faults as one error."""
        return error_of(self.faults)


def check_nodes(
    run: TrainingRun, *, weights_bytes: int = 0, planned_gb: float | None = None, seconds: float = SECONDS
) -> None:
    """Look at every node and at the mixtures of all stages; report one line, and one for each warning.

    Args:
        run: the run that is to train.
        weights_bytes: size of the model that it starts from, for which there has to be room.
        planned_gb: memory that the training plan takes on a GPU, in GB.
        seconds: how long the nodes are waited for.

    Raises PreflightError with a line for each fault of each node, and ValueError where a mixture names what
    the manifest does not hold.
    """
    if len(manifest := manifest_of(run)):
        resolve_stages(run.recipe, manifest.counted(groups_of(run.recipe)))
    findings = look_at_nodes(run, weights_bytes=weights_bytes, planned_gb=planned_gb, seconds=seconds)
    for node, lines in findings.warnings.items():
        for line in lines:
            run.report(f"{node}: {line}")
    if findings.error:
        raise findings.error
    told = "; ".join(f"{name}: {node.summary()}" for name, node in findings.nodes.items())
    run.report(f"checked before training: {told}")


def check_stage(run: TrainingRun, stage: str, start: Reference) -> None:
    """:func:`check_nodes` for a stage that trains the model of a reference."""
    folder = run.storage().download(start["folder"])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    check_nodes(run, weights_bytes=size, planned_gb=run.planned_gb.get(stage))


def look_at_nodes(
    run: TrainingRun, *, weights_bytes: int = 0, planned_gb: float | None = None, seconds: float = SECONDS
) -> Findings:
    """What :func:`check_nodes` judges. Raises PreflightError where the driver does not reach the storage."""
    alone = run.ray_address is None and not (ray.is_initialized() and len(_alive()) > 1)
    if run.in_process or alone:
        return _on_this_machine(run, weights_bytes, planned_gb, seconds)
    with ray_session(run.ray_address):
        alive = _alive()
        if len(alive) > 1 and (refused := refusals(run)):
            return Findings(faults={f"cluster of {len(alive)} nodes": refused})
        request = request_of(run, weights_bytes)
        with probe_in(run, request):
            answers = _asked(alive, request, seconds)
    training = [name for name in alive if _may_train(alive[name], alive)]
    return _judged(answers, training, request, planned_gb)


def _on_this_machine(
    run: TrainingRun, weights_bytes: int, planned_gb: float | None, seconds: float
) -> Findings:
    """Without a cluster: Ray is started here later on, and needs no task to look."""
    request = request_of(run, weights_bytes)
    answers: dict[str, Node | Fault] = {}

    def look() -> None:
        answers[THIS_MACHINE] = look_at_this_node(request)

    with probe_in(run, request):
        thread = threading.Thread(target=look, daemon=True)  # the process ends although a check hangs
        thread.start()
        thread.join(seconds)
    answers = dict(answers) or {THIS_MACHINE: _late(seconds)}
    return _judged(answers, [THIS_MACHINE], request, planned_gb)


def _asked(nodes: dict[str, dict[str, Any]], request: Request, seconds: float) -> dict[str, Node | Fault]:
    """Each node's answer, or why there is none."""
    # A process of its own each: what a check leaves behind there ends with it. No core is taken from workers.
    look = ray.remote(num_cpus=0, num_gpus=0, max_retries=0, max_calls=1)(look_at_this_node)
    started = {
        name: look.options(scheduling_strategy=_at(node)).remote(request) for name, node in nodes.items()
    }
    ready, _ = ray.wait(list(started.values()), num_returns=len(started), timeout=seconds)
    return {name: _answer(one, seconds if one not in ready else None) for name, one in started.items()}


def _answer(reference: Any, late: float | None) -> Node | Fault:
    """What a task returned, or why it did not; ``late``: the seconds in which it did not end."""
    if late is not None:
        with suppress(Exception):  # it may be the node that is gone
            ray.cancel(reference, force=True)
        return _late(late)
    try:
        return ray.get(reference)
    except Exception as error:  # whatever ends a task, or keeps it from starting
        return _broken(error)


def _alive() -> dict[str, dict[str, Any]]:
    """The nodes of the connected cluster by their names."""
    return {_name(node): node for node in ray.nodes() if node["Alive"]}


def _at(node: dict[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _judged(
    answers: dict[str, Node | Fault], training: list[str], request: Request, planned_gb: float | None
) -> Findings:
    """On a node that takes no worker, what is wrong is a warning."""
    wanted, findings = versions(), Findings()
    for name, answer in answers.items():
        found = [answer] if isinstance(answer, Fault) else faults_of(answer, request, wanted)
        findings.faults[name] = found if name in training else []
        findings.warnings[name] = [] if name in training else [f"takes no worker; {one}" for one in found]
        if isinstance(answer, Node):
            findings.nodes[name] = answer
            findings.warnings[name] += filter(None, [gpu_warning(answer, planned_gb)])
    return findings


def _may_train(node: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> bool:
    """Whether workers may be put there: where GPUs are, else where cores are."""
    kind = "GPU" if any(one["Resources"].get("GPU") for one in nodes.values()) else "CPU"
    return bool(node["Resources"].get(kind))


def _name(node: dict[str, Any]) -> str:
    return f"node {node['NodeManagerAddress']} ({node['NodeManagerHostname']}, {node['NodeID'][:8]})"


def _late(seconds: float) -> Fault:
    return Fault(
        what="answer",
        found=f"no answer within {seconds:g} s",
        needed="an answer",
        advice="see that the machine, its disks and network folders respond; restart Ray there",
    )


def _broken(error: Exception) -> Fault:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return Fault(
        what="answer",
        found=f"{type(error).__name__}: {lines[-1][:300] if lines else ''}",
        needed="this package with [pipeline], as on the driver",
        advice="install it there, and see Ray's logs on that machine",
    )
