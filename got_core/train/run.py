"""What a training run needs to know, and what it leaves behind: the model reference.

Only plain data, so that both travel to Ray workers and through asset storage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from got_core.model.formats.weights import weights_hash
from got_core.recipes import Recipe
from got_core.storage import Storage
from got_core.train.config import Device

__all__ = ["TrainingRun", "weights_hash"]

Reference = dict[str, Any]
"""What assets hand on of a trained model; see :func:`model_reference`."""

VERSION = 4
"""Raise when the same recipe and data train another model; it is part of every trained model's key. 2: boxes
are painted on canvases, and masked, as the released inference code does. 3: noise and cut of a sample follow
from its number in the training, edits are never cropped, other crops keep something of every box, and
embeddings do not decay. 4: pictures are encoded in bfloat16 where a stage computes in it."""


class TakedownList(Protocol):
    """What must go, as it is known while a training runs. Picklable."""

    def version(self, storage: Storage) -> str:
        """Another one whenever what must go has changed.

        Raises OSError or StoreUnavailableError where the storage cannot be read.
        """
        ...

    def items(self, storage: Storage) -> frozenset[str]:
        """Ids of images, pairs and chains.

        Raises ValueError where the list cannot be understood, else as :meth:`version`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Inputs of a training asset: data, recipe and where things are."""

    storage_url: str
    raw_url: str
    edits_url: str | None
    manifest: pl.DataFrame | None
    """Samples to train on; None: those of ``manifest_file``. No frame travels to workers of a stage."""
    manifest_hash: str
    manifest_file: str | None = None
    """Folder in the storage that holds the manifest, mapped by whoever reads it (``data.manifest_file``)."""
    places: str | None = None
    """Folder in the storage that says where samples lie in its training tars (``data.sources.places``); None:
    the tars' indexes say it."""
    recipe: Recipe
    tracking_uri: str
    storage_options: dict[str, Any] = field(default_factory=dict)
    raw_options: dict[str, Any] = field(default_factory=dict)
    """File system options of the raw images, such as an S3 endpoint."""
    edits_options: dict[str, Any] = field(default_factory=dict)
    """File system options of the edit pairs' images."""
    published: tuple[str, str] | None = None
    """Folders of SDXL and of Qwen2.5-VL to start from; None: ``foundation`` says from what."""
    foundation: str | None = None
    """Folder of foundation weights (``got_core.model.formats.foundation_folder``) to start from; None: small
    foundation models are trained."""
    weights: str | None = None
    """GoT model to start from, as ``Settings.weights``; ``published`` then names configurations alone."""
    weights_options: dict[str, Any] = field(default_factory=dict)
    """File system options of a URL of weights."""
    variant: str | None = None
    """Of SDXL's weight files (such as ``fp16``); None: plain ones, or the only variant there is."""
    planned_gb: dict[str, float] = field(default_factory=dict)
    """Memory on a GPU that the training plan works out, in GB (10^9 bytes) by stage; empty without a plan."""
    ray_address: str | None = None
    """Address of a Ray cluster; None starts Ray on this machine and stops it afterwards."""
    workers: int | None = None
    """Data-parallel workers of a stage. None: all GPUs of the cluster, or on processors as many as the recipe
    says. 0: this process trains, without Ray."""
    device: Device = "auto"
    """Where stages are trained."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags of the MLflow run, such as the Dagster run id."""
    takedowns: TakedownList | None = None
    """What must go, looked at while a stage trains; None: nothing but what its manifest lacks already."""
    progress: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if self.manifest is None and self.manifest_file is None:
            raise ValueError("a training run needs a manifest, or the name of its file")

    @property
    def in_process(self) -> bool:
        """Whether this process trains, without Ray: for debuggers, and where starting workers takes long."""
        return self.workers == 0

    def storage(self) -> Storage:
        """The storage that models and pictures are written to."""
        return Storage(self.storage_url, **self.storage_options)

    def report(self, line: str) -> None:
        """Tell the user how far the work is."""
        if self.progress is not None:
            self.progress(line)


def model_reference(
    run: TrainingRun,
    name: str,
    stage: str,
    key: str,
    steps: int,
    started: float,
    metrics: dict[str, float],
) -> Reference:
    """What a training leaves behind: where its model is, what it was made from, and how it went."""
    return {
        "stage": stage,
        "folder": name,
        "weights_hash": weights_hash(run.storage().download(name)),
        "config_digest": key,
        "manifest_hash": run.manifest_hash,
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "metrics": {key: float(value) for key, value in metrics.items()},
    }
