"""The loss on rows that no stage trains on.

Belongs here: measuring it. Not here: which rows these are (``data.samples``), and when it is measured
(``stages``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import torch

from got_core.digests import digest
from got_core.train import parallel
from got_core.train.config import KINDS
from got_core.train.data.batches import JointBatches
from got_core.train.data.pictures import PictureError
from got_core.train.objective import Batch
from got_core.train.optim import mixed_precision
from got_core.train.trainer import Trainer


class HeldOut:
    """The held-out rows of a stage's mixture, at most ``held_out_samples`` of them. One for each rank.

    A row is measured by itself, with the noise, timestep and dropped conditions that follow from its id, cut
    from the middle and with its first wording: neither the number of workers nor the batch size changes the
    loss, and two trainings that hold out the same ``rows`` can be compared.

    Raises ValueError where the objective's batches cannot be made of chosen rows.
    """

    def __init__(self, trainer: Trainer, report: Callable[[str], None]) -> None:
        self._trainer, self._report = trainer, report
        config, data = trainer.config, trainer.data
        chosen = np.unique(data.held_out_rows(config.mixture)) if config.held_out else np.empty(0, np.int32)
        by_place = np.argsort(data.manifest.column("place")[chosen], kind="stable")
        self._rows: list[int] = chosen[by_place[: config.held_out_samples]].tolist()
        if self._rows and not isinstance(trainer.batches, JointBatches):
            raise ValueError("the stage's objective has no batches of chosen rows: set held_out to 0")
        if config.held_out and not self._rows and trainer.rank == 0:
            report(
                f"no row of the mixture is among the held-out share of {config.held_out}: no held-out loss"
            )

    @property
    def rows(self) -> str:
        """Digest of the rows and of how they are looked at."""
        trainer = self._trainer
        ids = sorted(trainer.data.sample_id(row) for row in self._rows)
        return digest([ids, asdict(trainer.config.loss), trainer.config.geometry, trainer.data.resolution])

    def losses(self) -> dict[str, float]:
        """Mean losses over the rows, as ``held_out/NAME``; all ranks call it and get the same.

        Of the averaged weights where the stage keeps an average, for these are what it leaves. Rows that were
        taken down meanwhile, or cannot be read, do not count. Empty without rows. Training goes on as if it
        had not been measured.
        """
        trainer = self._trainer
        sums: dict[str, float] = {}
        count = missing = 0
        with trainer.evaluating():
            for rows in self._rounds():
                found = self._round(rows)
                count, missing = count + len(found), missing + (not found)
                for losses in found:
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0.0) + value
        if missing and trainer.rank == 0:
            self._report(f"the held-out loss lacks up to {missing * trainer.ranks} rows that cannot be read")
        return {f"held_out/{name}": total / count for name, total in sums.items()}

    def _rounds(self) -> Iterator[list[int]]:
        """Rows that the ranks take at a time: of one kind, for edits pass through layers that others do not,
        and a spread layer needs all ranks."""
        trainer, data = self._trainer, self._trainer.data
        for kind in KINDS:
            rows = [row for row in self._rows if data.manifest.kind(row) == kind]
            rows = [row for row in rows if not data.is_taken_down(row, trainer.step)]
            for first in range(0, len(rows), trainer.ranks):
                yield rows[first : first + trainer.ranks]

    def _round(self, rows: list[int]) -> list[dict[str, float]]:
        """Losses of at most one row a rank; none where one of them cannot be read. All ranks compute, for a
        spread model runs on all or none."""
        trainer = self._trainer
        row = rows[trainer.rank % len(rows)]
        batch = self._batch(row)
        if parallel.sum_over_workers(float(batch is None), trainer.ranks, trainer.device):
            return []
        assert batch is not None
        noise = torch.Generator().manual_seed(_noise_seed(trainer.data.sample_id(row)))
        with mixed_precision(trainer.device.type, trainer.config.bf16):
            losses = trainer.model(batch, [noise])
        trainer.reshard()
        own = {name: value.item() for name, value in losses.items()}
        return parallel.gathered(own, trainer.ranks)[: len(rows)]

    def _batch(self, row: int) -> Batch | None:
        trainer = self._trainer
        assert isinstance(trainer.batches, JointBatches)
        try:
            sample = trainer.data.take(row)
        except PictureError:
            return None
        return trainer.batches.of([sample], sample.prompts[:1]) | {"learning": 1}


def _noise_seed(sample_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"held-out noise {sample_id}".encode()).digest()[:7], "big")
