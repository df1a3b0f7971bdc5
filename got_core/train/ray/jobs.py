"""Data-parallel training on Ray Train workers, resumed from its last checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from got_core.filesystems import open_filesystem
from got_core.storage import Storage
from got_core.train.ray.progress import relayed_progress
from got_core.train.ray.session import ray_session
from got_core.train.ray.workers import stage_workers
from got_core.train.run import TrainingRun
from got_core.train.stage import Stage


def fit(
    run: TrainingRun,
    name: str,
    stage: Stage,
    worker: Callable[[dict[str, Any]], None],
    arguments: dict,
) -> dict[str, Any]:
    """Run a worker function on the stage's Ray Train workers and return rank 0's last metrics.

    ``name`` is the resume key: a run that was cut off goes on from its last checkpoint under the same name.
    The function gets ``arguments``, the run as ``run``, and ``gpu``, whether it has one. Raises ValueError,
    before any worker starts, where the cluster cannot train the stage (see ``workers``).
    """
    config = stage.config
    path, filesystem = _ray_storage(run.storage())
    with ray_session(run.ray_address, run.workers or config.workers), relayed_progress(run) as relayed:
        workers = stage_workers(run, stage)
        if workers.reason:
            run.report(f"{stage.name}: {workers.reason}")
        trainer = TorchTrainer(
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
                checkpoint_config=CheckpointConfig(num_to_keep=2),
            ),
            torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        )
        result = trainer.fit()
    if result.error is not None:
        raise result.error
    return dict(result.metrics or {})


def _ray_storage(storage: Storage) -> tuple[str, Any]:
    """Path and pyarrow file system for checkpoints: those of the storage, whatever its URL and options."""
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


def report(metrics: dict[str, Any], save: Callable[[Path], None] | None, rank: int) -> None:
    """Report to Ray Train, with a checkpoint of rank 0 where ``save`` is given. All ranks call it.

    ``save`` is called on all ranks, for they may have to gather what rank 0 writes.
    """
    if save is None:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        checkpoint = ray.train.Checkpoint.from_directory(folder) if rank == 0 else None
        ray.train.report(metrics, checkpoint=checkpoint)


@contextmanager
def last_checkpoint() -> Iterator[Path | None]:
    """Folder of the checkpoint to resume from; None on a fresh start."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
