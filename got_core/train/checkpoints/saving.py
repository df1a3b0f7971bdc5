"""Saving while training goes on: a copy in host memory, then an upload in the background.

Belongs here: one rank's side of it, and what the ranks have to agree on. Not here: what a checkpoint holds
(``tensors``), its files (``parts``) and folders (``folders``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from got_core.storage import Storage
from got_core.train import parallel
from got_core.train.checkpoints.folders import (
    RECORD,
    Checkpoint,
    last_checkpoint,
    remove_old,
    remove_unfinished,
)
from got_core.train.checkpoints.parts import Part, plan_part, write_part
from got_core.train.checkpoints.tensors import check_finite

FAREWELL_SECONDS = 60.0
"""How long an upload may take on after the training has failed."""


class Checkpoints:
    """The checkpoints of one training, as one of its ranks sees them.

    All ranks make one, call :meth:`save` for the same steps and :meth:`last` together. At most one upload is
    in flight: a rank that saves again waits for its last one, and gets its error. Used in ``with``, it waits
    for the last upload at the end.

    Args:
        storage, root: where; ``root`` is a folder of this training's own.
        rank, ranks, device: as the training has them; ``device`` is where ranks exchange numbers.
        record: what is written beside each checkpoint, as plain data (see ``record``).
    """

    def __init__(
        self,
        storage: Storage,
        root: str,
        *,
        rank: int = 0,
        ranks: int = 1,
        device: torch.device | str = "cpu",
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.storage, self.root = storage, root
        self.rank, self.ranks, self.device = rank, ranks, torch.device(device)
        self._record = dict(record or {})
        self._attempt = parallel.agreed(secrets.randbits(32), ranks, self.device)
        self._copies: dict[str, Tensor] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._upload: tuple[Checkpoint, Future[None]] | None = None

    @classmethod
    def in_folder(cls, folder: Path, rank: int, ranks: int, device: torch.device) -> Checkpoints:
        """Those in a local folder that all ranks reach."""
        return cls(Storage(str(folder)), "checkpoints", rank=rank, ranks=ranks, device=device)

    def last(self) -> Checkpoint | None:
        """The newest complete checkpoint, the same for all ranks, which call it together, before any save.

        What broken uploads have left is deleted.
        """
        found = None
        if self.rank == 0:
            remove_unfinished(self.storage, self.root)
            found = last_checkpoint(self.storage, self.root)
        step = parallel.agreed(-1 if found is None else found.step, self.ranks, self.device)
        attempt = parallel.agreed(0 if found is None else found.attempt, self.ranks, self.device)
        return None if step < 0 else Checkpoint(self.storage, self.root, step, attempt)

    def save(
        self, step: int, state: Mapping[str, Tensor], note: Mapping[str, Any], *, milestone: bool = False
    ) -> None:
        """Copy the state of a step and upload it in the background. All ranks call it.

        ``note`` is plain data that comes back in ``Checkpoint.record()["note"]``; rank 0's counts. A
        ``milestone`` is kept for good.

        Raises FloatingPointError where the state is not finite (nothing is saved), and RuntimeError where the
        upload before failed.
        """
        self.wait()
        check_finite(state, step, self.ranks, self.device)
        part = plan_part(state, self.rank, self.ranks)
        self._copy(part, state)
        record = self._record | {
            "step": step,
            "note": dict(note),
            "milestone": milestone,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        checkpoint = Checkpoint(self.storage, self.root, step, self._attempt)
        self._upload = checkpoint, self._worker.submit(self._write, checkpoint, part, record)

    def _copy(self, part: Part, state: Mapping[str, Tensor]) -> None:
        """Into the same memory each time, for no upload reads it now."""
        self._copies = {name: self._copies[name] for name in part.names if name in self._copies}
        for name in part.names:
            value, copy = parallel.local(state[name].detach()), self._copies.get(name)
            if copy is None or (copy.shape, copy.dtype) != (value.shape, value.dtype):
                pinned = value.device.type == "cuda"
                copy = torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned)
                self._copies[name] = copy
            copy.copy_(value, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _write(self, checkpoint: Checkpoint, part: Part, record: dict[str, Any]) -> None:
        """The part, then what says that it is there; rank 0 tidies up last."""

        def write(file: str, data: bytes) -> None:
            self.storage.write_bytes(f"{checkpoint.name}/{file}", data)

        started = time.monotonic()
        files = write_part(part, self._copies, write)
        if self.rank == 0:
            self.storage.write_json(f"{checkpoint.name}/{RECORD}", record)
        note = {"files": files, "seconds": round(time.monotonic() - started, 3)}
        self.storage.write_json(checkpoint.note_name(self.rank, self.ranks), note)
        if self.rank == 0:
            with suppress(OSError):  # what could not be deleted is next time
                remove_old(self.storage, self.root)

    def wait(self) -> None:
        """Wait for this rank's upload. Raises RuntimeError naming its checkpoint where it failed."""
        if self._upload is None:
            return
        (checkpoint, upload), self._upload = self._upload, None
        try:
            upload.result()
        except Exception as error:
            raise RuntimeError(
                f"checkpoint {checkpoint.url} could not be written ({type(error).__name__}: {error}); the "
                "one before is still there. Look at the storage's space and reach, then run the stage again"
            ) from error

    def wait_for_all(self) -> None:
        """Wait for the uploads of all ranks, which call it together."""
        self.wait()
        parallel.agreed(0, self.ranks, self.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
            elif self._upload is not None:  # the error is worth more than the upload's
                with suppress(Exception):
                    self._upload[1].result(FAREWELL_SECONDS)
        finally:
            self._worker.shutdown(wait=False)
