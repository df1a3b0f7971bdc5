"""What a node must have before the first step: storage, pictures, MLflow, alike packages, room.

Belongs here: looking at what one node can reach, from that node, and judging what all nodes found; plain
functions. Not here: what a machine is (``machine``), running this on the nodes of a cluster
(``ray.preflight``), how many GPUs a stage needs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import edits_root
from got_core.corpus.reader import ImageReader
from got_core.filesystems import is_s3, local_path
from got_core.redacted import redacted_url
from got_core.storage import Storage
from got_core.train.config import KINDS
from got_core.train.data.manifest_file import manifest_of
from got_core.train.data.sources.latents import places_are_of_latents
from got_core.train.data.sources.places import places_of
from got_core.train.machine import GB, Fault, Node, free_memory, gpus, staging_folders, versions
from got_core.train.run import TrainingRun

FOLDER = "preflight"
"""Folder in the storage of what a check leaves there for its duration."""
PICTURES = 3
"""Pictures of a kind that are tried; one that opens will do."""
_PATIENCE = {"connect_timeout": 5, "read_timeout": 10, "retries": {"max_attempts": 1}}
_MLFLOW = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class PreflightError(ValueError):
    """What keeps nodes from training: a line for each fault, with what to do."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a node is asked to look at; plain data that travels there."""

    storage_url: str
    storage_options: dict[str, Any]
    raw_url: str
    raw_options: dict[str, Any]
    edits_url: str | None
    edits_options: dict[str, Any]
    ingest: IngestConfig
    tracking_uri: str
    pictures: dict[str, list[str]]
    """Pictures of the manifest by kind, as its rows name them; none that are in training tars."""
    probe: str
    """Name in the storage of an object that the driver has written, and its content."""
    weights_bytes: int = 0
    """Size of the model that training starts from; 0: not known."""


# -- before any node is asked -----------------------------------------------------------------------------


def request_of(run: TrainingRun, weights_bytes: int = 0) -> Request:
    """What the nodes are asked for a run."""
    return Request(
        storage_url=run.storage_url,
        storage_options=run.storage_options,
        raw_url=run.raw_url,
        raw_options=run.raw_options,
        edits_url=run.edits_url,
        edits_options=run.edits_options,
        ingest=run.recipe.ingest,
        tracking_uri=run.tracking_uri,
        pictures=_first_pictures(run),
        probe=f"{FOLDER}/{uuid.uuid4().hex}",
        weights_bytes=weights_bytes,
    )


def _first_pictures(run: TrainingRun) -> dict[str, list[str]]:
    """Of each kind, the first pictures that are read as raw files, as far as the run knows which are; none
    where stored latents are read."""
    manifest = manifest_of(run)
    if not len(manifest) or places_are_of_latents(run):
        return {}
    packed = np.zeros(len(manifest), dtype=bool)
    if run.places is not None and (places := places_of(run, manifest)) is not None:
        packed = places.packed_rows
    rows = {kind: manifest.of_kind(kind) for kind in KINDS}
    first = {kind: some[~packed[some]][:PICTURES].tolist() for kind, some in rows.items()}
    return {kind: [manifest.row(row)["target_path"] for row in some] for kind, some in first.items()}


def refusals(run: TrainingRun) -> list[Fault]:
    """What cannot work with several nodes, whatever these are like: places that each has for itself."""
    faults = []
    if _is_local_tracking(run.tracking_uri):
        faults.append(
            Fault(
                what="MLflow",
                found=f"{redacted_url(run.tracking_uri)}, of which each node would have another one",
                needed="a tracking server that all nodes reach",
                advice="start one (`mlflow server --host 0.0.0.0`) and set GOT_MLFLOW_URI to its http:// URL",
            )
        )
    if run.storage_url.startswith("memory:"):
        faults.append(
            Fault(
                what="storage",
                found=f"{run.storage_url}, which every process has for itself",
                needed="a store that all nodes reach",
                advice="set GOT_STORAGE to an s3:// URL, or to a folder that all nodes share",
            )
        )
    return faults


def _is_local_tracking(uri: str) -> bool:
    """Whether MLflow would keep what it tracks on the machine that opens the URI."""
    if uri.startswith(("sqlite", "file:")):
        return True
    return "://" not in uri and uri not in ("databricks", "databricks-uc", "uc")


@contextlib.contextmanager
def probe_in(run: TrainingRun, request: Request) -> Iterator[None]:
    """An object of the driver's in the storage, for nodes to see. Raises PreflightError without access."""
    try:
        storage = _patient(request)
        storage.write_bytes(request.probe, request.probe.encode())
    except Exception as error:  # whatever a file system raises
        raise PreflightError(f"the driver cannot train: {_storage_fault(request, _text(error))}") from error
    try:
        yield
    finally:
        storage.delete(request.probe)


# -- on a node --------------------------------------------------------------------------------------------


def look_at_this_node(request: Request) -> Node:
    """Everything that can be found out here; a check that fails by itself is a fault as well."""
    checks: dict[str, Callable[[Request], Fault | None]] = {
        "storage": _check_storage,
        "MLflow": _check_mlflow,
        **{f"pictures ({kind})": _pictures_check(kind) for kind in request.pictures},
    }
    faults = [fault for what, check in checks.items() if (fault := _tried(what, check, request))]
    return Node(
        versions=versions(),
        disk={folder: shutil.disk_usage(folder).free for folder in staging_folders(request.storage_url)},
        memory=free_memory(),
        gpus=gpus(),
        faults=tuple(faults),
    )


def _tried(what: str, check: Callable[[Request], Fault | None], request: Request) -> Fault | None:
    try:
        return check(request)
    except Exception as error:  # a fault of one check must not hide the others
        found = f"the check failed by itself: {_text(error)}"
        return Fault(what=what, found=found, needed="an answer", advice="see that the node can reach it")


def _check_storage(request: Request) -> Fault | None:
    """See the driver's object; write, read and delete one."""
    name, content = f"{request.probe}-{uuid.uuid4().hex}", uuid.uuid4().bytes
    try:
        storage = _patient(request)
        if not storage.exists(request.probe):
            return _storage_fault(request, "an object that the driver wrote is not seen from here")
        storage.write_bytes(name, content)
        try:
            same = storage.read_bytes(name) == content
        finally:
            storage.delete(name)
    except Exception as error:  # whatever a file system raises
        return _storage_fault(request, _text(error))
    return None if same else _storage_fault(request, "other bytes are read than were written")


def _storage_fault(request: Request, found: str) -> Fault:
    advice = "see that GOT_STORAGE (GOT_S3_ENDPOINT) can be reached from there with the same credentials"
    if local_path(request.storage_url):
        advice = "set GOT_STORAGE to an s3:// URL, or to a folder that all nodes share"
    return Fault(
        what="storage",
        found=f"{redacted_url(request.storage_url)}: {found}",
        needed="the one storage, to write and read",
        advice=advice,
    )


def _check_mlflow(request: Request) -> Fault | None:
    shown = redacted_url(request.tracking_uri)
    try:
        with _environment(_MLFLOW):
            from got_core.registry.tracking import connect

            connect(request.tracking_uri).search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow and its drivers raise
        return Fault(
            what="MLflow",
            found=f"{shown}: {_text(error)}",
            needed="an answer of the tracking server",
            advice="start it, open it to the nodes' network, or correct GOT_MLFLOW_URI",
        )
    return None


def _pictures_check(kind: str) -> Callable[[Request], Fault | None]:
    return lambda request: _check_pictures(request, kind)


def _check_pictures(request: Request, kind: str) -> Fault | None:
    """Whether one of the manifest's first pictures of a kind opens."""
    paths, said = request.pictures[kind], ""
    url = request.raw_url if kind == "t2i" else request.edits_url
    for path in paths:
        try:
            _reader(request, kind).open(path)
            return None
        except Exception as error:  # whatever a file system raises
            said = said or _text(error)
    if not paths:
        return None
    setting = "GOT_RAW" if kind == "t2i" else "GOT_EDITS"
    return Fault(
        what=f"pictures ({kind})",
        found=f"{redacted_url(str(url))}: none of the manifest's first {len(paths)} opens: {said}",
        needed="the pictures that the manifest names",
        advice=f"mount them there under the same path, or set {setting} to a URL that all nodes reach",
    )


def _reader(request: Request, kind: str) -> ImageReader:
    if kind == "t2i":
        return ImageReader(
            request.raw_url,
            request.ingest,
            _patience(request.raw_url, request.raw_options),
            store_url=request.storage_url,
            store_options=_patience(request.storage_url, request.storage_options),
        )
    if request.edits_url is None:
        raise ValueError("the manifest has edits, but no table of pairs is set")
    root = edits_root(request.edits_url)
    return ImageReader(root, request.ingest, _patience(root, request.edits_options))


def _patient(request: Request) -> Storage:
    return Storage(request.storage_url, **_patience(request.storage_url, request.storage_options))


def _patience(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options with which a store that is not there is an answer after seconds."""
    if not is_s3(url):
        return options
    return {**options, "config_kwargs": {**options.get("config_kwargs", {}), **_PATIENCE}}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _text(error: Exception) -> str:
    return redacted_url(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


# -- what is to be said of all ----------------------------------------------------------------------------


def faults_of(node: Node, request: Request, wanted: Mapping[str, str]) -> list[Fault]:
    """Everything that keeps a node from training. ``wanted``: the driver's versions."""
    return [*node.faults, *_unlike(node, wanted), *_too_little(node, request)]


def _unlike(node: Node, wanted: Mapping[str, str]) -> Iterator[Fault]:
    unlike = {name: one for name, one in wanted.items() if node.versions.get(name) != one}
    if unlike:
        yield Fault(
            what="versions",
            found=", ".join(f"{name} {node.versions.get(name, 'none')}" for name in unlike),
            needed=f"those of the driver: {', '.join(f'{name} {one}' for name, one in unlike.items())}",
            advice="install the same versions there, from one lock file",
        )


def _too_little(node: Node, request: Request) -> Iterator[Fault]:
    needed = request.weights_bytes
    size = f"{needed / GB:.3g} GB, the size of the weights"
    for folder, free in node.disk.items():
        if free < needed:
            yield Fault(
                what="disk",
                found=f"{free / GB:.3g} GB free at {folder}",
                needed=f"at least {size}",
                advice="make room there, or set TMPDIR (XDG_CACHE_HOME) of Ray's processes to a larger disk",
            )
    if node.memory is not None and node.memory < needed:
        yield Fault(
            what="memory",
            found=f"{node.memory / GB:.3g} GB free",
            needed=f"at least {size}, for each worker",
            advice="end other programs there, or take a larger machine",
        )


def gpu_warning(node: Node, planned: float | None) -> str | None:
    """A line where a GPU has less memory (GB) than the training plan asks for."""
    small = [f"{name} with {size:.0f} GB" for name, size in node.gpus if planned and size < planned]
    if not small:
        return None
    return f"{', '.join(small)}: the training plan takes {planned:.0f} GB a GPU; see `got estimate`"


def error_of(faults: Mapping[str, Sequence[Fault]]) -> PreflightError | None:
    """All faults, by the name of the node, as one error; None where there are none."""
    lines = [f"{node}: {fault}" for node, found in faults.items() for fault in found]
    if not lines:
        return None
    head = f"{len(lines)} fault{'s' * (len(lines) > 1)} before training, so nothing is trained"
    return PreflightError("\n  ".join([head, *lines]))
