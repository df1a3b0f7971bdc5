"""How many workers train a stage, and on what: from the recipe, the settings and what the cluster has.

Belongs here: the decision, before any worker starts. Not here: how samples are spread over workers
(``layout``), and starting them (``jobs``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import ray
import torch

from got_core.ray_nodes import TooFewError, once_there
from got_core.train.config import Device, StageConfig
from got_core.train.run import TrainingRun
from got_core.train.sizes import trained_parameters
from got_core.train.stage import Stage

SMALL = 100_000_000
"""Most trained parameters of a model that is trained on processors without being asked to."""


@dataclass(frozen=True)
class Resources:
    """What a cluster has in all, whether in use or not."""

    gpus: int
    cpus: int

    @classmethod
    def of_cluster(cls) -> Resources:
        """Of the Ray cluster that this process is connected to."""
        found = ray.cluster_resources()
        return cls(int(found.get("GPU", 0)), int(found.get("CPU", 0)))


@dataclass(frozen=True)
class Workers:
    """Workers of a stage."""

    count: int
    gpu: bool
    """Whether each has a GPU; else each has a processor core."""
    reason: str = ""
    """Why they are other than one might expect: a sentence for the user, mostly none."""


def choose_workers(
    name: str,
    config: StageConfig,
    found: Resources,
    wanted: int | None,
    device: Device,
    parameters: Callable[[], int],
) -> Workers:
    """Workers of the stage ``name`` on what was ``found``.

    ``wanted`` is GOT_WORKERS, ``device`` GOT_DEVICE; ``parameters`` counts what the stage trains and is
    called only where that decides. On GPUs, all of them are taken that can share a draw evenly. Processors
    are taken where they are asked for, or where there is no GPU and the model is small. Raises TooFewError,
    which says what was found and needed and what to do, where that cannot be, and ValueError where a draw
    cannot be shared so.
    """
    if wanted is not None:
        _check_shared(name, config, wanted)
    if device == "cpu":
        chosen = Workers(wanted or config.workers, gpu=False)
    elif not found.gpus:
        chosen = _without_gpu(name, config, wanted, device, parameters)
    else:
        chosen = _on_gpus(name, config, found.gpus, wanted, parameters)
    if chosen.count > found.cpus:
        raise TooFewError(
            f"{name}: {chosen.count} workers need a processor core each, and the cluster has {found.cpus}; "
            f"set GOT_WORKERS to {_most(config, found.cpus)}, or give it more"
        )
    return chosen


def _check_shared(name: str, config: StageConfig, wanted: int) -> None:
    try:
        config.layout(wanted)
    except ValueError as error:
        raise ValueError(f"{name}: GOT_WORKERS={wanted}: {error}") from None


def _most(config: StageConfig, limit: int) -> int:
    """The largest number of workers up to a limit that share a draw evenly; 1 at least."""
    return max(n for n in config.layout().possible_workers if n <= max(1, limit))


def _without_gpu(
    name: str, config: StageConfig, wanted: int | None, device: Device, parameters: Callable[[], int]
) -> Workers:
    needed = wanted or config.workers
    ways = "connect to a cluster that has GPUs (GOT_RAY_ADDRESS), or set GOT_DEVICE=cpu"
    if device == "cuda":
        raise TooFewError(f"{name}: GOT_DEVICE=cuda needs {needed} GPUs, found 0; {ways}")
    trained = parameters()
    if trained > SMALL:
        raise TooFewError(
            f"{name}: needs {needed} GPUs, found 0: it trains {trained:,} parameters, and more than "
            f"{SMALL:,} take too long on processors; {ways}, which trains on processors all the same"
        )
    return Workers(needed, gpu=False)


def _on_gpus(
    name: str, config: StageConfig, gpus: int, wanted: int | None, parameters: Callable[[], int]
) -> Workers:
    if wanted is not None:
        if wanted > gpus:
            raise TooFewError(
                f"{name}: GOT_WORKERS={wanted} needs {wanted} GPUs, found {gpus}; set GOT_WORKERS to "
                f"{_most(config, gpus)}, or give the cluster more GPUs"
            )
        return Workers(wanted, gpu=True)
    most = _most(config, gpus)
    if gpus < config.workers:
        # A small model's workers are for its speed alone.
        if parameters() > SMALL:
            raise TooFewError(
                f"{name}: needs {config.workers} GPUs, found {gpus}; give the cluster more GPUs, or set "
                f"GOT_WORKERS={most}, which takes more passes a step: `got estimate` says what fits"
            )
        reason = f"{most} in place of {config.workers} workers; GPUs found: {gpus}"
        return Workers(most, gpu=True, reason=reason)
    if most == gpus:
        return Workers(gpus, gpu=True)
    samples = config.layout().samples_per_draw
    reason = f"{most} of {gpus} GPUs: no larger number shares the {samples} samples of a draw evenly"
    return Workers(most, gpu=True, reason=reason)


def stage_workers(run: TrainingRun, stage: Stage) -> Workers:
    """Workers of a stage on the connected cluster, by the run's settings (see :func:`choose_workers`).

    Where this process trains (``run.in_process``) they are one, with a GPU of this machine if it has any.
    Nodes of a cluster that are not there yet are waited for.
    """
    here = run.in_process
    parameters = cache(lambda: trained_parameters(run.recipe.model, stage))

    def choose() -> Workers:
        return choose_workers(
            stage.name,
            stage.config,
            Resources(min(1, torch.cuda.device_count()), 1) if here else Resources.of_cluster(),
            1 if here else run.workers,
            run.device,
            parameters,
        )

    return once_there(choose, None if here else run.ray_address)


def fewer_workers(run: TrainingRun, most: int) -> TrainingRun:
    """The run with ``most`` workers, or as many as its settings say where these are fewer: for trainings that
    go on side by side and leave each other room."""
    if run.in_process:
        return run
    return replace(run, workers=min(most, run.workers or most))
