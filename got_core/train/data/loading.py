"""Passes read ahead by decoder processes, or when they are asked for.

torch's DataLoader with a sampler that begins at any step: passes come in order, each from one process, a
bounded number of them ahead. What a pass holds follows from its order alone, so the number of processes
changes nothing. Belongs here: processes, and what becomes of their errors. Not here: reading a pass
(``passes``).
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from got_core.train.data.passes import PassOrder, PassReader, ReadPass

_LEAST_WAIT = 300.0
"""Seconds that are always waited for a pass: a process has to start, and may have a whole pass to read."""
_LOOK = 5.0
"""Seconds between looks whether the processes live. DataLoader looks only when its own timeout is over, and
processes of a fork server do not signal their end to this one."""
_ALIGNED = 64
"""Bytes at whose multiples tensors begin."""
_PRELOADED = ["__main__", "got_core.train.data.passes"]
"""Modules that decoder processes are forked with: importing takes seconds and half a gigabyte."""


class DecoderError(RuntimeError):
    """A decoder process that ended, or did not answer."""


@dataclass(frozen=True)
class _Failed:
    """In place of a pass: why it could not be read."""

    error: Exception


@dataclass(frozen=True)
class _Packed:
    """A pass whose tensors lie in one: each tensor that is sent costs both sides a wake-up and a file."""

    found: ReadPass
    """Its tensors are empty."""
    places: dict[str, tuple[int, torch.dtype, torch.Size]]
    """Of each tensor: where it begins, type and shape."""
    packed: Tensor
    """uint8 (N,)."""

    @classmethod
    def of(cls, found: ReadPass) -> _Packed:
        """A pass, packed."""
        tensors, places, end = found.tensors(), {}, 0
        for name, value in tensors.items():
            places[name] = (end, value.dtype, value.shape)
            end += -(-value.nbytes // _ALIGNED) * _ALIGNED
        packed = torch.zeros(end, dtype=torch.uint8)
        for name, value in tensors.items():
            start = places[name][0]
            packed[start : start + value.nbytes] = value.contiguous().reshape(-1).view(torch.uint8)
        empty = dict.fromkeys(tensors, torch.empty(0))
        return cls(found.with_tensors(empty), places, packed)

    def pin_memory(self) -> _Packed:
        """In memory that a device copies from without waiting."""
        return replace(self, packed=self.packed.pin_memory())

    def unpacked(self) -> ReadPass:
        """The pass; its tensors are views."""
        tensors = {}
        for name, (start, dtype, shape) in self.places.items():
            part = self.packed[start : start + shape.numel() * dtype.itemsize]
            tensors[name] = part.view(dtype).view(shape)
        return self.found.with_tensors(tensors)


class PassLoader:
    """The passes of one rank, step by step.

    Args:
        reader: reads a pass.
        orders: of the passes of a step.
        decoders: processes that read; 0: this one reads, when it is asked.
        prefetch: passes that each process has ready.
        steps: after which none is read; None: there is no end.
        pin: whether passes are copied into pinned memory.
        timeout: seconds that a picture may take; 0: there is no limit.
    """

    def __init__(
        self,
        reader: PassReader,
        orders: Callable[[int], list[PassOrder]],
        *,
        decoders: int = 0,
        prefetch: int = 2,
        steps: int | None = None,
        pin: bool = False,
        timeout: float = 0.0,
    ) -> None:
        self._reader, self._orders = reader, orders
        self._decoders, self._prefetch, self._pin = decoders, prefetch, pin
        # A pass may try substitutes, one after the other.
        self._timeout = max(_LEAST_WAIT, 10 * timeout) if timeout else 0.0
        self._from = _OrdersFrom(orders, steps)
        self._loader: DataLoader | None = None
        self._passes: Any = None
        self._next = self._changes = -1

    def step(self, step: int) -> list[ReadPass]:
        """The passes of a step, in order.

        Where it is not the one after the last, or rows were left out since, what was read ahead is thrown
        away. Raises what reading raises, DecoderError where a process is lost.
        """
        orders = self._orders(step)
        if not self._decoders:
            return [self._reader.read(order) for order in orders]
        if self._is_elsewhere(step):
            self._begin(step)
        passes = [self._taken(order) for order in orders]
        self._next = step + 1
        return passes

    def _is_elsewhere(self, step: int) -> bool:
        beyond = self._from.steps is not None and step >= self._from.steps
        return step != self._next or beyond or self._reader.data.changes != self._changes

    def _begin(self, step: int) -> None:
        if self._loader is None:
            self._reader.share()
            self._loader = self._made()
        loader = self._loader
        self._from.step, self._changes = step, self._reader.data.changes
        # The processes stay; what they have read ahead is dropped.
        self._passes = self._guarded(lambda: iter(loader), f"step {step}")

    def _made(self) -> DataLoader:
        multiprocessing.set_forkserver_preload(_PRELOADED)
        return DataLoader(
            _Reading(self._reader),
            batch_size=None,
            sampler=self._from,  # type: ignore[arg-type]
            num_workers=self._decoders,
            # Forked from this process they would have the locks of Ray's and the GPU's threads.
            multiprocessing_context="forkserver",
            persistent_workers=True,
            prefetch_factor=self._prefetch,
            pin_memory=self._pin,
            timeout=_LOOK,
            collate_fn=_as_it_is,
        )

    def _taken(self, order: PassOrder) -> ReadPass:
        where = f"step {order.step} (samples {min(order.indices)} to {max(order.indices)})"
        found = self._guarded(self._awaited, where)
        if isinstance(found, _Failed):
            raise found.error
        assert found.found.order == order
        return found.unpacked()

    def _awaited(self) -> Any:
        started = time.monotonic()
        while True:
            try:
                return next(self._passes)
            except RuntimeError as error:
                # Processes that live have not answered yet: the loader goes on where it was.
                waited = time.monotonic() - started
                if "timed out" not in str(error) or 0 < self._timeout <= waited:
                    raise

    def _guarded(self, action: Callable[[], Any], where: str) -> Any:
        try:
            return action()
        except (RuntimeError, OSError, EOFError) as error:
            self.close()
            raise DecoderError(
                f"passes of {where} cannot be had from the {self._decoders} decoder processes: {error}. One "
                "that was killed may have lacked memory: lower decoders or prefetch; the training goes on "
                "from its last checkpoint"
            ) from error

    def close(self) -> None:
        """End the processes. The loader may be used again."""
        if self._passes is not None:
            self._passes._shutdown_workers()
        self._loader = self._passes = None
        self._next = -1


class _OrdersFrom:
    """The orders of passes from a step on, which may be changed before they are gone through again."""

    def __init__(self, orders: Callable[[int], Sequence[PassOrder]], steps: int | None) -> None:
        self._orders, self.steps = orders, steps
        self.step = 0

    def __iter__(self) -> Iterator[PassOrder]:
        step = self.step
        while self.steps is None or step < max(self.steps, self.step + 1):
            yield from self._orders(step)
            step += 1


class _Reading(Dataset):
    """What a decoder process does with an order. An error is an answer like any other: it is raised when
    its pass is due, as if it had been read then."""

    def __init__(self, reader: PassReader) -> None:
        self._reader = reader

    def __getitem__(self, order: PassOrder) -> _Packed | _Failed:
        started = time.process_time()
        try:
            found = _Packed.of(self._reader.read(order))
            seconds = time.process_time() - started
            return replace(found, found=replace(found.found, cpu_seconds=seconds))
        except Exception as error:
            error.add_note(f"in a decoder process, samples {min(order.indices)} to {max(order.indices)}")
            return _Failed(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error, or its text where it cannot be sent: the queue would lose it, and its reader wait."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _as_it_is(found: Any) -> Any:
    return found
