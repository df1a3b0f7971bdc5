"""A rank's part of a checkpoint: safetensors files of ``torch.distributed.checkpoint``, and what is in them.

No rank waits for another: who writes what follows from names and sizes, and a reader takes the files that its
own parts lie in. torch's own reader understands the files as well. Belongs here: the files. Not here: where
they lie (``folders``).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor
from torch.distributed.checkpoint import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, WriteItem
from torch.distributed.tensor import DTensor
from torch.futures import Future

FILE_BYTES = 128 * 1024**2
"""About how much a file holds: while it is written, its bytes are in memory a second time."""

Write = Callable[[str, bytes], None]
"""Takes a file's name and content."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or is of another training."""


# -- writing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """What one rank writes, and into which of its files."""

    rank: int
    ranks: int
    items: list[WriteItem]
    files: dict[str, int] = field(default_factory=dict)
    """Number of the file by tensor, from 1."""

    @property
    def names(self) -> list[str]:
        """Names of its tensors."""
        return [item.index.fqn for item in self.items]


def plan_part(state: Mapping[str, Tensor], rank: int, ranks: int) -> Part:
    """The part of a rank: its piece of every spread tensor, and its share of those that all ranks hold.

    Every rank has to hand in the same names and shapes in the same order. Raises TypeError for a tensor that
    is neither spread nor surely the same everywhere.
    """
    owners = _owners(state, ranks)
    mine = {
        name: value
        for name, value in state.items()
        if owners.get(name, rank) == rank and _is_first_copy(value)
    }
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(mine, is_coordinator=True)
    items = [item for item in planner.create_local_plan().items if prod(_chunk(item).sizes)]
    return Part(rank, ranks, items, _files(items))


def _is_first_copy(value: Tensor) -> bool:
    """Whether no rank before this one holds the same piece of a spread tensor."""
    if not isinstance(value, DTensor):
        return True
    place = value.device_mesh.get_coordinate()
    assert place is not None
    return not any(at for at, how in zip(place, value.placements, strict=True) if how.is_replicate())


def _owners(state: Mapping[str, Tensor], ranks: int) -> dict[str, int]:
    """The writer of each tensor that all ranks hold: the largest first, to the one with the least so far.

    Numbers all go to rank 0: a reader then opens one small file for them.
    """
    plain = {name: value for name, value in state.items() if not isinstance(value, DTensor)}
    numbers = {name: 0 for name, value in plain.items() if value.numel() <= 1}
    others = sorted(plain.keys() - numbers.keys(), key=lambda name: (-plain[name].nbytes, name))
    if others and len(plain) < len(state):
        raise TypeError(
            f"{others[0]} is whole while other tensors are spread over the ranks: each rank may hold another"
        )
    loads = [0] * ranks
    for name in others:
        numbers[name] = loads.index(min(loads))
        loads[numbers[name]] += plain[name].nbytes
    return numbers


def _chunk(item: WriteItem) -> ChunkStorageMetadata:
    assert item.tensor_data is not None  # there are tensors only
    return item.tensor_data.chunk


def _dtype(item: WriteItem) -> torch.dtype:
    assert item.tensor_data is not None
    return item.tensor_data.properties.dtype


def _files(items: list[WriteItem]) -> dict[str, int]:
    """Files of limited size, those of single numbers first."""
    numbers = [item for item in items if prod(_chunk(item).sizes) == 1]
    files = {item.index.fqn: 1 for item in numbers}
    number, filled = 1 + bool(numbers), 0
    for item in items:
        if item.index.fqn not in files:
            size = prod(_chunk(item).sizes) * _dtype(item).itemsize
            if filled and filled + size > FILE_BYTES:
                number, filled = number + 1, 0
            files[item.index.fqn], filled = number, filled + size
    return files


class _Snapshot(DefaultSavePlanner):
    """A planner that takes values from copies in host memory."""

    def __init__(self, copies: Mapping[str, Tensor]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._copies = copies

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        return self._copies[index.fqn]


class _Stream:
    """What torch writes a file into."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self.pieces.append(piece)
        return len(piece)

    def tell(self) -> int:
        return sum(map(len, self.pieces))

    def flush(self) -> None:
        """All is in memory."""

    def close(self) -> None:
        """It is handed on when torch leaves it."""


class _Files(FileSystem):
    """Hands each file on as a whole when it is done."""

    def __init__(self, write: Write) -> None:
        self._write = write

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:  # type: ignore[override]
        stream = _Stream()
        yield stream
        self._write(Path(path).name, b"".join(stream.pieces))


class _Writer(HuggingFaceStorageWriter):
    """torch's writer, into something else than a local folder."""

    def __init__(self, write: Write, files: dict[str, int]) -> None:
        super().__init__("", fqn_to_index_mapping=files, save_distributed=True)
        self.fs = _Files(write)
        self.sync_files = False  # it would sync the whole machine; what writes does it file by file


def write_part(part: Part, copies: Mapping[str, Tensor], write: Write) -> dict[str, Any]:
    """Write a part from copies of its tensors. Returns, by file: size, sha256 and the tensors in it."""
    if not part.items:
        return {}
    files: dict[str, Any] = {}

    def write_and_note(name: str, data: bytes) -> None:
        write(name, data)
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    writer = _Writer(write_and_note, part.files)
    plan = writer.prepare_global_plan([SavePlan(part.items)] * part.ranks)[part.rank]
    results = writer.write_data(plan, _Snapshot(copies)).wait()
    by_name = {item.index.fqn: item for item in part.items}
    for result in results:
        tensors = files[result.storage_data.relative_path].setdefault("tensors", {})
        tensors[result.index.fqn] = _described(by_name[result.index.fqn])
    return files


def _described(item: WriteItem) -> dict[str, Any]:
    chunk = _chunk(item)
    name = str(_dtype(item)).removeprefix("torch.")
    return {"dtype": name, "offsets": [*chunk.offsets], "shape": [*chunk.sizes]}


# -- reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunk:
    """A piece of a tensor in a file."""

    file: str
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Saved:
    """A tensor of a checkpoint."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    """Of the whole tensor."""
    chunks: tuple[Chunk, ...]


Index = dict[str, Saved]
"""All tensors of a checkpoint by name."""


def make_index(files: Mapping[str, Any], where: str) -> Index:
    """Index of the files of all ranks, as :func:`write_part` described them.

    Raises CheckpointError, with the checkpoint's name ``where``, for a tensor of which a piece is missing.
    """
    chunks: dict[str, list[Chunk]] = defaultdict(list)
    dtypes: dict[str, set[str]] = defaultdict(set)
    for file, content in files.items():
        for name, one in content["tensors"].items():
            chunks[name].append(Chunk(file, tuple(one["offsets"]), tuple(one["shape"])))
            dtypes[name].add(one["dtype"])
    return {name: _saved(name, sorted(dtypes[name]), chunks[name], where) for name in chunks}


def _saved(name: str, dtypes: list[str], chunks: list[Chunk], where: str) -> Saved:
    ends = [[a + b for a, b in zip(c.offsets, c.shape, strict=True)] for c in chunks]
    shape = tuple(max(sides) for sides in zip(*ends, strict=True))
    dtype = getattr(torch, dtypes[0], None)
    whole = sum(prod(chunk.shape) for chunk in chunks) == prod(shape)
    if len(dtypes) > 1 or not isinstance(dtype, torch.dtype) or not whole:
        raise CheckpointError(
            f"{where}: the pieces of {name!r} ({', '.join(dtypes)}) do not make one tensor; delete the "
            "checkpoint, and the stage goes on from the one before"
        )
    return Saved(dtype, shape, tuple(chunks))


class _Reader(HuggingFaceStorageReader):
    """torch's reader, by an index, from something else than a local folder: only files that are needed."""

    def __init__(self, index: Index, read: Callable[[str], bytes]) -> None:
        super().__init__("")
        self._index, self._read = index, read

    def read_metadata(self) -> Metadata:
        tensors: dict[str, TensorStorageMetadata] = {}
        files: dict[MetadataIndex, str] = {}
        for name, saved in self._index.items():
            pieces = [ChunkStorageMetadata(torch.Size(c.offsets), torch.Size(c.shape)) for c in saved.chunks]
            properties = TensorProperties(dtype=saved.dtype)
            tensors[name] = TensorStorageMetadata(properties, torch.Size(saved.shape), pieces)
            files |= {MetadataIndex(name, torch.Size(c.offsets)): c.file for c in saved.chunks}
        return Metadata(state_dict_metadata=tensors, storage_data=files)  # type: ignore[arg-type]

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        wanted = defaultdict(list)
        for item in plan.items:
            wanted[self.storage_data[item.storage_index]].append(item)
        for file, items in wanted.items():
            tensors = load(self._read(file))
            for item in items:
                ranges = zip(item.storage_offsets, item.lengths, strict=True)
                piece = tensors[item.storage_index.fqn][tuple(slice(a, a + n) for a, n in ranges)]
                planner.resolve_tensor(item).detach().copy_(piece)
        done: Future[None] = Future()
        done.set_result(None)
        return done


@torch.no_grad()
def read_into(targets: dict[str, Tensor], index: Index, read: Callable[[str], bytes]) -> None:
    """Fill tensors from a checkpoint, spread ones with this rank's piece; dtypes have to be equal already.

    No rank waits for another. ``read`` gives a file's content.
    """
    reader = _Reader(index, read)
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    metadata = reader.read_metadata()
    planner.set_up_planner(targets, metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    reader.read_data(planner.finish_plan(planner.create_local_plan()), planner).wait()
