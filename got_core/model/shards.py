"""Reads state dicts from folders of weight files: sharded with an index, or one file.

Belongs here: files, indexes, and turning pickled shards into safetensors once. Does not belong here: what the
tensors mean (``released``). Nothing is unpickled but tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True)
class StateFiles:
    """The tensors of a folder, and where its index and its shards disagree."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """What index and safetensors headers say besides the tensors."""
    absent: tuple[str, ...] = ()
    """Keys that the index promises and their shard does not hold."""
    unlisted: tuple[str, ...] = ()
    """Keys that a shard holds and the index does not list for it."""


def read_state(folder: Path, cache: Path | None = None) -> StateFiles:
    """All tensors of a checkpoint folder, on the CPU.

    Pickled shards are converted to safetensors, once: beside themselves, or below ``cache``. Raises
    FileNotFoundError where index, weights or shards are not there, ValueError for an index or a shard that
    cannot be trusted or read; both name the file.
    """
    shards, metadata = _shards(folder)
    gone = [name for name in shards if not (folder / name).is_file()]
    if gone:
        raise FileNotFoundError(
            f"{folder} lacks {len(gone)} of {len(shards)} weight files: {', '.join(gone)}"
        )
    tensors: dict[str, Tensor] = {}
    absent: list[str] = []
    unlisted: list[str] = []
    for name, listed in shards.items():
        found, header = _read(as_safetensors(folder / name, cache))
        metadata |= header
        if listed is not None:
            absent += sorted(listed - found.keys())
            unlisted += sorted(found.keys() - listed)
        tensors |= {key: value for key, value in found.items() if listed is None or key in listed}
    return StateFiles(tensors, metadata, tuple(absent), tuple(unlisted))


def _shards(folder: Path) -> tuple[Mapping[str, set[str] | None], dict[str, str]]:
    """Shard file to the keys that the index lists for it (None: there is no index), and its metadata."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    for name in INDEXES:
        if (folder / name).is_file():
            return _read_index(folder / name)
    for name in SINGLE_FILES:
        if (folder / name).is_file():
            return {name: None}, {}
    raise FileNotFoundError(f"{folder} holds none of {', '.join((*INDEXES, *SINGLE_FILES))}")


def _read_index(path: Path) -> tuple[dict[str, set[str] | None], dict[str, str]]:
    try:
        index = json.loads(path.read_bytes())
        weight_map, metadata = index["weight_map"], dict(index.get("metadata") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not an index of weight files (a JSON object with weight_map)") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{path}: weight_map must be an object of tensor names and files")
    shards: dict[str, set[str] | None] = {}
    for key, name in weight_map.items():
        # A plain name stays in the folder; anything else may point anywhere on this machine.
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(SUFFIXES)
            or "\\" in name
        ):
            raise ValueError(f"{path}: {key!r} lies in {name!r}, which is no plain .safetensors or .bin name")
        keys = shards.setdefault(name, set())
        assert keys is not None
        keys.add(key)
    return shards, {str(key): str(value) for key, value in metadata.items()}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); download it again") from error


# -- pickled shards -----------------------------------------------------------------------------------


def as_safetensors(path: Path, cache: Path | None = None) -> Path:
    """The safetensors file of a shard: itself, or for ``.bin`` a copy that is made once.

    The copy remembers size and time of its source and is made again if they change. Raises ValueError for a
    file that holds anything but a dictionary of tensors; nothing in it is executed.
    """
    if path.suffix == ".safetensors":
        return path
    target = _converted_name(path, cache)
    stat = path.stat()
    source = {"source_size": str(stat.st_size), "source_mtime_ns": str(stat.st_mtime_ns)}
    if not target.is_file() or not _made_from(target, source):
        _write_atomically(_load_pickled(path), target, source)
    return target


def _converted_name(path: Path, cache: Path | None) -> Path:
    if cache is None:
        return path.with_name(f"{path.name}.safetensors")
    folder = hashlib.sha256(str(path.parent.resolve()).encode()).hexdigest()[:16]
    return cache / folder / f"{path.name}.safetensors"


def _made_from(target: Path, source: dict[str, str]) -> bool:
    try:
        with safe_open(target, framework="pt") as file:
            return source.items() <= (file.metadata() or {}).items()
    except SafetensorError:
        return False


def _load_pickled(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # reading damaged bytes may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} was refused: it is damaged or holds more than tensors ({reason})"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path} is not a state dict: a dictionary of tensors by name")
    return state


def _write_atomically(state: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(_without_sharing(state), partial, metadata)
        os.replace(partial, target)
    except PermissionError as error:
        raise PermissionError(f"{target.parent} cannot be written to; name a `cache` folder") from error
    finally:
        partial.unlink(missing_ok=True)


def _without_sharing(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors with memory of their own, as safetensors wants them."""
    seen: set[int] = set()
    result = {}
    for key, value in state.items():
        storage = value.untyped_storage()
        whole = value.is_contiguous() and storage.nbytes() == value.numel() * value.element_size()
        alone = whole and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        result[key] = value if alone else value.clone(memory_format=torch.contiguous_format)
    return result
