"""Latents of a whole manifest: shard by shard, on Ray workers or in this process.

Belongs here: which keys a recipe needs, and spreading the work. Not here: one shard (``shards``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import ray
import torch
from torch import nn

from got_core.digests import digest
from got_core.ray_sessions import ray_session
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.encoding.autoencoder import autoencoder_hash, load_autoencoder
from got_core.train.encoding.shards import Made, unfinished, write_shard
from got_core.train.latents.key import LatentKey, latent_key, stored_folders, write_key
from got_core.train.latents.parts import read_index
from got_core.train.ray.progress import relayed_progress
from got_core.train.ray.workers import Resources
from got_core.train.run import Reference, TrainingRun
from got_core.train.takedowns import ID_COLUMNS

IN_PROCESS = 1000
"""Most samples that are not worth starting Ray on this machine for."""
WITHOUT_SHARD = "all"
"""Shard of rows whose manifest names none."""


@dataclass(frozen=True)
class _Task:
    """A shard's rows, and what encodes them."""

    run: TrainingRun
    """Its manifest is the shard's."""
    config: StageConfig
    key: LatentKey
    start: Reference
    shard: str


def make_latents(run: TrainingRun, start: Reference) -> dict[str, Any]:
    """Bring the stored latents of all stages that read such up to date with the manifest.

    ``start``: the model that the first stage starts from, whose autoencoder no stage changes. Rows on the
    takedown list are left out. Returns a document: ``stages``, the folder of each stage's latents, and
    ``latents``, by folder its key, numbers of samples, listed rows and bytes, and a digest of the index;
    ``unused``, folders of other keys.

    Raises:
        LatentsUnfinishedError: pictures cannot be had for now.
        ValueError: no stage of the recipe reads latents.
    """
    storage = run.storage()
    autoencoder = load_autoencoder(storage.download(start["folder"]), start["stage"])
    stages = {one.name: one.config for one in run.recipe.stages if one.config.latents is not None}
    if not stages:
        raise ValueError(f"no stage of the recipe {run.recipe.name!r} reads latents")
    name = autoencoder_hash(autoencoder)
    keys = {stage: latent_key(run.recipe.model, config, name) for stage, config in stages.items()}
    chosen = {keys[stage].folder: (keys[stage], config) for stage, config in stages.items()}
    run = replace(run, manifest=_without_taken_down(run))
    found = {}
    for folder, (key, config) in chosen.items():
        write_key(storage, key)
        made = _made(run, config, key, start)
        found[folder] = {"key": asdict(key)} | made | {"index": _index_digest(storage, folder)}
    unused = [folder for folder in stored_folders(storage) if folder not in chosen]
    return {
        "stages": {stage: key.folder for stage, key in keys.items()},
        "latents": found,
        "unused": unused,
    }


def _without_taken_down(run: TrainingRun) -> pl.DataFrame:
    """The manifest's rows but those that must go by now."""
    items = run.takedowns.items(run.storage()) if run.takedowns else frozenset()
    rows = _rows(run)
    columns = [pl.col(one).is_in(list(items)) for one in ID_COLUMNS if one in rows.columns]
    return rows.filter(~pl.any_horizontal(columns).fill_null(False)) if items else rows


def _index_digest(storage: Storage, folder: str) -> str:
    """Changes with what is stored for which sample."""
    index = read_index(storage, folder).select("sample_id", "digest", "reason").sort("sample_id")
    return digest(index.rows())


def _made(run: TrainingRun, config: StageConfig, key: LatentKey, start: Reference) -> dict[str, int]:
    total, done, shards, sums = _rows(run).height, 0, 0, Made()
    tasks = [_Task(replace(run, manifest=rows), config, key, start, name) for name, rows in _shards(run)]
    for task, made in _results(run, tasks):
        done, shards, sums = done + _rows(task.run).height, shards + 1, sums + made
        run.report(
            f"latents: {done:,} of {total:,} samples, {shards} of {len(tasks)} shards, {sums.new:,} made now,"
            f" {sums.listed:,} that cannot be read, {sums.bytes / 1e9:,.1f} GB"
        )
    if sums.unavailable:
        raise unfinished(sums.unavailable)
    return {name: getattr(sums, name) for name in ("samples", "new", "listed", "bytes")}


def _rows(run: TrainingRun) -> pl.DataFrame:
    if run.manifest is None:
        raise ValueError("latents are made of the rows of a manifest, not of a file")
    return run.manifest


def _shards(run: TrainingRun) -> list[tuple[str, pl.DataFrame]]:
    rows = _rows(run)
    if "shard" not in rows.columns:
        return [(WITHOUT_SHARD, rows)]
    parts = rows.partition_by("shard", as_dict=True)
    return sorted((str(name or WITHOUT_SHARD), rows) for (name,), rows in parts.items())


def _results(run: TrainingRun, tasks: list[_Task]) -> Iterator[tuple[_Task, Made]]:
    """What became of each task, in any order."""
    few = sum(_rows(task.run).height for task in tasks) <= IN_PROCESS
    few = few and run.ray_address is None and (run.device == "cpu" or not torch.cuda.is_available())
    if few or run.in_process:
        yield from ((task, _encode(task)) for task in tasks)
        return
    with ray_session(run.ray_address), relayed_progress(run) as relayed:
        found = Resources.of_cluster()
        gpu = bool(found.gpus) and run.device != "cpu"
        remote = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=2)(_encode)
        relayed_tasks = (replace(task, run=replace(task.run, progress=relayed.progress)) for task in tasks)
        yield from _in_flight(relayed_tasks, remote.remote, 2 * max(1, found.gpus if gpu else found.cpus))


def _in_flight(
    tasks: Iterable[_Task], submit: Callable[[_Task], Any], most: int
) -> Iterator[tuple[_Task, Made]]:
    """Results of tasks of which so many are handed in at a time."""
    waiting: dict[Any, _Task] = {}
    for task in tasks:
        waiting[submit(task)] = task
        if len(waiting) >= most:
            yield _first(waiting)
    while waiting:
        yield _first(waiting)


def _first(waiting: dict[Any, _Task]) -> tuple[_Task, Made]:
    (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
    return waiting.pop(ready), ray.get(ready)


_opened: dict[tuple[Path, str], nn.Module] = {}
"""The autoencoder that this process has encoded with last, by the device."""


def _encode(task: _Task) -> Made:
    """Make a shard's latents in this process."""
    run, storage = task.run, task.run.storage()
    gpu = run.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    folder = storage.download(task.start["folder"])
    if (folder, device.type) not in _opened:
        _opened.clear()
        _opened[folder, device.type] = load_autoencoder(folder, task.start["stage"]).to(device)
    # Every picture is opened once: nothing decoded is kept.
    data = training_data(run, replace(task.config, latents=None, cache_megabytes=0))
    return write_shard(storage, task.key, task.shard, data, _opened[folder, device.type], device=device)
