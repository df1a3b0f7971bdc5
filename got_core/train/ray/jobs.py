"""Data-parallel training on Ray Train workers, started again where one is lost.

Belongs here: the workers. Not here: what they go on from (``checkpoints``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from got_core.filesystems import open_filesystem
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.ray.progress import relayed_progress
from got_core.train.ray.session import ray_session
from got_core.train.run import TrainingRun


def fit(
    run: TrainingRun,
    name: str,
    config: StageConfig,
    worker: Callable[[dict[str, Any]], None],
    arguments: dict,
) -> dict[str, Any]:
    """Run a worker function on ``config.workers`` Ray Train workers and return rank 0's last metrics.

    ``name`` is Ray's name of the run. Workers are started again, up to ``config.max_failures`` times; they
    find by themselves what to go on from.
    """
    path, filesystem = _ray_storage(run.storage())
    with ray_session(run.ray_address, config.workers), relayed_progress(run) as relayed:
        gpu = _on_gpu(config)
        trainer = TorchTrainer(
            worker,
            train_loop_config=arguments | {"run": relayed, "config": config},
            scaling_config=ScalingConfig(
                num_workers=config.workers, use_gpu=gpu, resources_per_worker={"CPU": 1, "GPU": int(gpu)}
            ),
            run_config=RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=config.max_failures),
            ),
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        )
        result = trainer.fit()
    if result.error is not None:
        raise result.error
    return dict(result.metrics or {})


def _ray_storage(storage: Storage) -> tuple[str, Any]:
    """Path and pyarrow file system for Ray's own notes: the storage's, whatever its URL and options."""
    url = storage.url_of("ray")
    if url.startswith("file://"):
        return url.removeprefix("file://"), None
    filesystem, path = open_filesystem(url, **storage.fs_options)
    return path, PyFileSystem(FSSpecHandler(filesystem))


def _on_gpu(config: StageConfig) -> bool:
    """Whether workers train on GPUs. Asks the connected cluster where the recipe leaves it open."""
    if config.device == "auto":
        return ray.cluster_resources().get("GPU", 0) >= config.workers
    return config.device == "cuda"
