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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from got_core.model.formats.files import find_weights, is_named_by_a_library, weight_files

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


def read_state(
    folder: Path, cache: Path | None = None, *, variant: str | None = None, convert: bool = True
) -> StateFiles:
    """All tensors of a checkpoint folder, on the CPU.

    Pickled shards are converted to safetensors, once: beside themselves, or below ``cache``. Without
    ``convert`` they are read as they are. ``variant`` as in :func:`find_weights` of ``files``.
    Raises FileNotFoundError where index, weights or shards are not there, ValueError for an index or a shard
    that cannot be trusted or read; both name the file.
    """
    shards, metadata = _shards(folder, variant)
    tensors: dict[str, Tensor] = {}
    absent: list[str] = []
    unlisted: list[str] = []
    for name, listed in shards.items():
        path = folder / name
        found, header = _read(as_safetensors(path, cache) if convert else path)
        metadata |= header
        if listed is not None:
            absent += sorted(listed - found.keys())
            unlisted += sorted(found.keys() - listed)
        tensors |= {key: value for key, value in found.items() if listed is None or key in listed}
    return StateFiles(tensors, metadata, tuple(absent), tuple(unlisted))


def _shards(folder: Path, variant: str | None) -> tuple[Mapping[str, set[str] | None], dict[str, str]]:
    """Shard file to the keys that the index lists for it (None: there is no index), and its metadata."""
    path = find_weights(folder, variant).path
    if path.suffix != ".json":
        return {path.name: None}, {}
    shards, metadata = _read_index(path)
    gone = [name for name in shards if not (folder / name).is_file()]
    if gone:
        raise FileNotFoundError(
            f"{folder} lacks {len(gone)} of {len(shards)} weight files: {', '.join(gone)}"
        )
    return shards, metadata


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
    if path.suffix == ".bin":
        return _load_pickled(path), {}
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); download it again") from error


# -- one tensor at a time -----------------------------------------------------------------------------

CHUNK = 16 << 20
"""Bytes of a tensor that are in memory at once."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, whose values are read when they are asked for."""

    path: Path
    key: str
    dtype: str
    """As torch names it, such as ``bfloat16``."""
    shape: tuple[int, ...]
    source: Tensor | range
    """The tensor itself (of a ``.bin``), or its bytes' places in the file."""

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Its bytes in little-endian, C order."""
        if isinstance(self.source, Tensor):
            flat = self.source.contiguous().reshape(-1).view(torch.uint8)
            for start in range(0, len(flat), CHUNK):
                yield memoryview(flat[start : start + CHUNK].numpy())
            return
        with self.path.open("rb") as file:
            file.seek(self.source.start)
            for start in range(0, len(self.source), CHUNK):
                yield file.read(min(CHUNK, len(self.source) - start))


def weight_folders(folder: Path) -> list[Path]:
    """The folder and those below it that hold weights, in order of their names."""
    found = []
    for place, below, names in os.walk(folder, followlinks=True):
        if any(name.endswith(SUFFIXES) for name in names):
            found.append(Path(place))
        # A link to a folder above would lead in circles.
        here = Path(place).resolve()
        below[:] = [name for name in below if not here.is_relative_to((Path(place) / name).resolve())]
    return sorted(found)


def stored_tensors(folder: Path, variant: str | None = None) -> Iterator[StoredTensor]:
    """The tensors that :func:`read_state` reads, file by file; none where no file has a library's name."""
    if not weight_files(folder):
        return
    shards, _ = _shards(folder, variant)
    for name, listed in shards.items():
        for stored in _in_file(folder / name):
            if listed is None or stored.key in listed:
                yield stored


def other_files(folder: Path) -> Iterator[StoredTensor]:
    """The tensors of safetensors files that are called as no library calls a model's weights."""
    for path in sorted(folder.glob("*.safetensors")):
        if not is_named_by_a_library(path.name):
            yield from _in_file(path)


def _in_file(path: Path) -> Iterator[StoredTensor]:
    if path.suffix == ".bin":
        for key, tensor in _load_pickled(path).items():
            yield StoredTensor(path, key, _plain_dtype(tensor), tuple(tensor.shape), tensor)
        return
    with _opened(path) as file:
        header, start = _header(path)
        for key in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(key)
            first, last = header[key]["data_offsets"]
            places = range(start + first, start + last)
            yield StoredTensor(path, key, _plain_dtype(tensor), tuple(tensor.shape), places)


def _plain_dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file that safetensors has found valid, and where its data begins."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(size)), 8 + size


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
        isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided
        for key, value in state.items()
    ):
        raise ValueError(f"{path} is not a state dict: a dictionary of dense tensors by name")
    return {key: value.detach() for key, value in state.items()}


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
