"""Functions that run on Ray side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
import ray.train
import torch

from got_core.ray_sessions import ray_session
from got_core.train.ray.progress import relayed_progress
from got_core.train.run import TrainingRun


def run_apart(run: TrainingRun, tasks: dict[str, Callable[[TrainingRun], Any]]) -> dict[str, Any]:
    """Run functions of the run side by side, one core each, and return their results; errors are raised.

    Where this process trains (``run.in_process``) it calls them one after the other.
    """
    if run.in_process:
        return {name: task(run) for name, task in tasks.items()}
    with ray_session(run.ray_address, len(tasks)), relayed_progress(run) as relayed:
        # A process for each: an idle one would keep the hundreds of MiB that its task needed.
        apart = ray.remote(num_cpus=1, max_retries=1, max_calls=1)(_one_thread)
        remote = {name: apart.remote(task, relayed) for name, task in tasks.items()}
        return {name: ray.get(reference) for name, reference in remote.items()}


def _one_thread(task: Callable[[TrainingRun], Any], run: TrainingRun) -> Any:
    torch.set_num_threads(1)
    return task(run)
