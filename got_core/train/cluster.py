"""Ray: starting and stopping it, and the functions that run on its workers."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from got_core.train.board import told_progress
from got_core.train.config import StageConfig
from got_core.train.run import TrainingRun


@contextmanager
def ray_session(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine; what was started here is stopped at the end.

    ``cpus`` is the number of workers that must be able to run at once on a machine of fewer cores.
    """
    if ray.is_initialized():
        yield
        return
    # Progress comes through a board; the workers' own output stays in Ray's log files.
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # "local" ignores the address file that an ended cluster may have left behind.
        options |= {"num_cpus": max(cpus or 1, os.cpu_count() or 1), "include_dashboard": False}
    # The behaviour of later Ray versions, chosen now; without it Ray warns about hidden GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(address=address or "local", **options)
    try:
        yield
    finally:
        ray.shutdown()


def run_apart(run: TrainingRun, tasks: dict[str, Callable[[TrainingRun], Any]]) -> dict[str, Any]:
    """Run functions of the run side by side, one core each, and return their results; errors are raised."""
    with ray_session(run.ray_address, len(tasks)), told_progress(run) as told:
        remote = {
            name: ray.remote(num_cpus=1, max_retries=1)(_one_thread).remote(task, told)
            for name, task in tasks.items()
        }
        return {name: ray.get(reference) for name, reference in remote.items()}


def _one_thread(task: Callable[[TrainingRun], Any], run: TrainingRun) -> Any:
    torch.set_num_threads(1)
    return task(run)


def fit(
    run: TrainingRun,
    name: str,
    config: StageConfig,
    worker: Callable[[dict[str, Any]], None],
    arguments: dict,
) -> dict[str, Any]:
    """Run a worker function on ``config.workers`` Ray Train workers and return rank 0's last metrics.

    ``name`` is the resume key: a run that was cut off goes on from its last checkpoint under the same name.
    """
    storage = run.storage()
    storage_path = storage.url_of("ray").removeprefix("file://")
    with ray_session(run.ray_address, config.workers), told_progress(run) as told:
        trainer = TorchTrainer(
            worker,
            train_loop_config=arguments | {"run": told, "config": config},
            scaling_config=ScalingConfig(num_workers=config.workers, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                name=name,
                storage_path=storage_path,
                failure_config=FailureConfig(max_failures=2),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
            ),
            torch_config=TorchConfig(backend="gloo"),
        )
        result = trainer.fit()
    if result.error is not None:
        raise result.error
    return dict(result.metrics or {})


def report(metrics: dict[str, Any], save: Callable[[Path], None] | None, rank: int) -> None:
    """Report to Ray Train, with a checkpoint written by rank 0 where ``save`` is given. All ranks call it."""
    if save is None or rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


@contextmanager
def last_checkpoint() -> Iterator[Path | None]:
    """Folder of the checkpoint to resume from; None on a fresh start."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
