"""What a page is made of: for each benchmark one model's result, and those that stand beside it.

Belongs here: these values. Not here: reading them from a storage (`loading`), or laying them out (`page`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from PIL import Image

Row = Mapping[str, Any]
"""A row of a table of samples."""

Opener = Callable[[Sequence[Row]], Mapping[int, bytes | Image.Image]]
"""Pictures of some rows, by the rows' places in the sequence; of those that are not there none."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model's result of one benchmark."""

    label: str
    """Such as `champion, version 3`."""

    scores: Mapping[str, Any]
    """As the benchmark's run returned them, or what the registry keeps of them."""

    samples: pl.DataFrame | None = None
    """One row a picture. Columns that are read where they are there: `sample_id`, `task`, `prompt`, `chain`,
    `seed`, `image`, `source_image`, `correct`, `value`, `failure`, `reason`, `plan_reason`, `reply`,
    `found`, `state`, `unscored`."""

    pictures: Opener | None = None
    sources: Opener | None = None
    """The pictures that were to be edited."""

    heats: Opener | None = None
    """What edits changed outside their regions, as pictures; kept of those that changed most."""

    outcomes: pl.DataFrame | None = None
    """What became of each sample, for differences in pairs (`evaluate.paired`)."""

    model: str | None = None
    """As `got why --model` takes it, such as the beginning of its weights' hash; None: the champion."""


@dataclass(frozen=True)
class Section:
    """One benchmark of the page."""

    scores: Mapping[str, Any]
    """As `evaluate`'s runs return them."""

    grid_png: bytes | None = None
    """Pictures with planned boxes."""

    samples: pl.DataFrame | None = None
    """The run's rows (see `Run.samples`), of which the failures are shown."""

    label: str = field(default="challenger", kw_only=True)
    pictures: Opener | None = field(default=None, kw_only=True)
    sources: Opener | None = field(default=None, kw_only=True)
    heats: Opener | None = field(default=None, kw_only=True)
    traces_png: bytes | None = field(default=None, kw_only=True)
    """Edits with the largest traces, beside the true pictures."""

    outcomes: pl.DataFrame | None = field(default=None, kw_only=True)
    model: str | None = field(default=None, kw_only=True)

    beside: tuple[Run, ...] = field(default=(), kw_only=True)
    """Other models' results of the benchmark, the champion's first."""

    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Such as why there is nothing of the champion."""

    @property
    def run(self) -> Run:
        """The model whose section it is."""
        return Run(
            label=self.label,
            scores=self.scores,
            samples=self.samples,
            pictures=self.pictures,
            sources=self.sources,
            heats=self.heats,
            outcomes=self.outcomes,
            model=self.model,
        )

    @property
    def name(self) -> str:
        """The benchmark's."""
        return str(self.scores.get("benchmark") or self.scores["protocol"])

    @property
    def comparable(self) -> tuple[Run, ...]:
        """Those beside it that are of the same protocol."""
        digest = self.scores["protocol_digest"]
        return tuple(one for one in self.beside if one.scores["protocol_digest"] == digest)

    @property
    def unlike(self) -> tuple[Run, ...]:
        """Those beside it of another protocol, which share no column with it."""
        digest = self.scores["protocol_digest"]
        return tuple(one for one in self.beside if one.scores["protocol_digest"] != digest)
