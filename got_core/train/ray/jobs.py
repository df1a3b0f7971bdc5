"""Data-parallel training on Ray Train workers, started again where one is lost.

Belongs here: the workers. Not here: what they go on from (``checkpoints``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback

from got_core.filesystems import open_filesystem
from got_core.ray_sessions import ray_session
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.ray.progress import relayed_progress
from got_core.train.ray.workers import stage_workers
from got_core.train.run import TrainingRun
from got_core.train.stage import Stage


class StoppedTrainingError(RuntimeError):
    """A training that its workers have ended, all of them, because starting again would end the same way."""


def fit(
    run: TrainingRun,
    name: str,
    stage: Stage,
    worker: Callable[[dict[str, Any]], str | None],
    arguments: dict,
) -> dict[str, Any]:
    """Run a worker function on the stage's Ray Train workers and return rank 0's last metrics.

    The function gets ``arguments``, the run as ``run``, and ``gpu``, whether it has one. Raises ValueError,
    before any worker starts, where the cluster cannot train the stage (see ``workers``).
    ``name`` is Ray's name of the run. Workers are started again, up to ``config.max_failures`` times; they
    find by themselves what to go on from.

    A worker that returns a text says why going on is of no use: Ray would start again after an error. Raises
    StoppedTrainingError with it. What this process trains itself (``run.in_process``) is not started again,
    and its errors are the function's own.
    """
    if run.in_process:
        return _outcome(_here(run, name, stage, worker, arguments))
    config = stage.config
    path, filesystem = _ray_storage(run.storage())
    with ray_session(run.ray_address, run.workers or config.workers), relayed_progress(run) as relayed:
        workers = stage_workers(run, stage)
        if workers.reason:
            run.report(f"{stage.name}: {workers.reason}")
        trainer = _Trainer(
            worker,
            train_loop_config=arguments | {"run": relayed, "gpu": workers.gpu},
            scaling_config=ScalingConfig(
                num_workers=workers.count,
                use_gpu=workers.gpu,
                resources_per_worker={"CPU": 1, "GPU": int(workers.gpu)},
            ),
            run_config=RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=config.max_failures),
            ),
            torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        )
        result = trainer.fit()
    return _outcome(result)


class _Trainer(TorchTrainer):
    """Without Ray's data sets, which nothing here reads: for them each training would have a process of its
    own, and all of its processes would import what reads them. Ray has no switch for it."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        found = super()._create_default_callbacks()
        return [one for one in found if not isinstance(one, DatasetsCallback)]


def session(run: TrainingRun, config: StageConfig) -> AbstractContextManager[None]:
    """Ray for a stage and what is done before it; none where this process trains."""
    if run.in_process:
        return nullcontext()
    return ray_session(run.ray_address, run.workers or config.workers)


def _here(
    run: TrainingRun, name: str, stage: Stage, worker: Callable[..., str | None], arguments: dict
) -> Result:
    """The worker function called by this process: what Ray Train does without workers."""
    return TorchTrainer(
        worker,
        train_loop_config=arguments | {"run": run, "gpu": stage_workers(run, stage).gpu},
        scaling_config=ScalingConfig(num_workers=0),
        run_config=RunConfig(name=name),
    ).fit()


def _outcome(result: Result) -> dict[str, Any]:
    if result.error is not None:
        raise result.error
    if result.return_value:
        raise StoppedTrainingError(result.return_value)
    return dict(result.metrics or {})


def _ray_storage(storage: Storage) -> tuple[str, Any]:
    """Path and pyarrow file system for Ray's own notes: the storage's, whatever its URL and options."""
    url = storage.url_of("ray")
    if url.startswith("file://"):
        return url.removeprefix("file://"), None
    filesystem, path = open_filesystem(url, **storage.fs_options)
    return path, PyFileSystem(FSSpecHandler(filesystem))


def worker_device(gpu: bool) -> torch.device:
    """The device of this worker.

    Asked by itself, Ray names the machine's first GPU to a worker that was given none.
    """
    return get_device() if gpu else torch.device("cpu")
