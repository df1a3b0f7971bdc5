"""Engines that are kept from one pipeline to the next: starting one costs minutes.

Belongs here: the engines of this process, and sending a pipeline's batches to them. Not here: what a pipeline
asks (`ray_batch`), the engine's own process (`engine_actor`).

Engines are Ray actors that belong to this process and end with it, however it ends. They are kept for the
next wave, step or shard with the same model and settings, until nothing was asked for a while, until another
model needs their place, or until this process trains (`ray_session`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.data
from ray import cloudpickle  # of what this process itself sends to its own workers

from got_core.annotate import engine_actor

cloudpickle.register_pickle_by_value(engine_actor)

_RESTARTS, _RETRIES = 3, 2
_OPTIONS = ("num_cpus", "num_gpus", "resources", "accelerator_type", "runtime_env", "max_concurrency")


@dataclass
class _Group:
    """Engines with the same model and settings."""

    key: bytes
    engines: list[Any]
    places: list[Any] = field(default_factory=list)
    """Placement groups that were made for them."""

    def end(self) -> None:
        if not ray.is_initialized():
            return
        for engine in self.engines:
            ray.kill(engine)
        for place in self.places:
            ray.util.remove_placement_group(place)


class Engines:
    """The engines of this process.

    `started` counts those that were started.
    """

    def __init__(self) -> None:
        self.started = 0
        self._groups: list[_Group] = []
        self._lock = threading.Lock()
        self._in_use = 0
        self._timer: threading.Timer | None = None

    @contextmanager
    def kept(
        self, processor: Any, replicas: int, idle_seconds: float, spare_cpus: int
    ) -> Iterator[list[Any]]:
        """Engines for a processor of `ray.data.llm`, by its last stage; afterwards kept for so long.

        `spare_cpus` must stay free beside them for the rest of the pipeline.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._in_use += 1
            engines = self._found_or_started(processor, replicas, spare_cpus)
        try:
            yield engines
        finally:
            with self._lock:
                self._in_use -= 1
                if not self._in_use:
                    self._timer = threading.Timer(idle_seconds, self._end_if_idle)
                    self._timer.daemon = True
                    self._timer.start()

    def end(self) -> None:
        """End all engines."""
        with self._lock:
            self._end_groups()

    def _end_if_idle(self) -> None:
        with self._lock:
            if not self._in_use:
                self._end_groups()

    def _end_groups(self) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            group.end()

    def _found_or_started(self, processor: Any, replicas: int, spare_cpus: int) -> list[Any]:
        stage = [*processor.stages.values()][-1]
        asked = stage.get_dataset_map_batches_kwargs(processor.config.batch_size, processor.DATA_COLUMN)
        session = ray.get_runtime_context().get_job_id()
        arguments = asked["fn_constructor_kwargs"]
        key = cloudpickle.dumps((session, stage.fn, sorted(arguments.items()), replicas))
        self._groups = [group for group in self._groups if _is_alive(group)]
        for group in self._groups:
            if group.key == key:
                return group.engines
        options = {name: asked[name] for name in _OPTIONS if asked.get(name) is not None}
        if not _fit(options, replicas, spare_cpus):
            self._end_groups()
        group = _Group(key, [])
        self._groups.append(group)
        for _ in range(replicas):
            made = asked["ray_remote_args_fn"]() if asked.get("ray_remote_args_fn") else {}
            if place := getattr(made.get("scheduling_strategy"), "placement_group", None):
                group.places.append(place)
            actor = ray.remote(engine_actor.EngineActor).options(
                max_restarts=_RESTARTS, max_task_retries=_RETRIES, **{**options, **made}
            )
            group.engines.append(actor.remote(stage.fn, arguments))
            self.started += 1
        return group.engines


ENGINES = Engines()
"""Those of this process."""


def run_with(engines: list[Any], processor: Any, dataset: ray.data.Dataset) -> ray.data.Dataset:
    """What the processor makes of a dataset, its last stage run by engines that are there already."""
    column, size = processor.DATA_COLUMN, processor.config.batch_size
    dataset = dataset.map(processor.preprocess)
    *before, last = processor.stages.values()
    for stage in before:
        dataset = dataset.map_batches_internal(stage.fn, **stage.get_dataset_map_batches_kwargs(size, column))
    at_once = int(last.map_batches_kwargs.get("max_concurrency") or 1) * len(engines)
    # Where the engines' libraries are: batches hold objects of theirs.
    environment = last.get_dataset_map_batches_kwargs(size, column).get("runtime_env")
    dataset = dataset.map_batches_internal(  # as the processor does it
        engine_actor.Forward,
        fn_constructor_args=(engines,),
        **({"runtime_env": environment} if environment else {}),
        batch_size=size,
        num_cpus=0,
        compute=ray.data.ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=2 * at_once),
        max_concurrency=at_once,
    )
    return dataset.map(processor.postprocess)


def _is_alive(group: _Group) -> bool:
    """Whether all of its engines are there; those that are starting are."""
    try:
        ready = [engine.ready.remote() for engine in group.engines]
        done, _ = ray.wait(ready, num_returns=len(ready), timeout=0.5)
        ray.get(done)
    except ray.exceptions.RayError:
        group.end()
        return False
    return True


def _fit(options: dict[str, Any], replicas: int, spare_cpus: int) -> bool:
    """Whether as many engines have room beside what runs now."""
    free = ray.available_resources()
    gpus, cpus = options.get("num_gpus") or 0, options.get("num_cpus") or 0
    return free.get("GPU", 0) >= replicas * gpus and free.get("CPU", 0) >= replicas * cpus + spare_cpus
