"""What a benchmark has to bring so that `runner` can run it.

Belongs here: the interface of a benchmark, and the variants in which its requests can be drawn. Not here: a
benchmark (`scenes`, `edits`), which ones there are (`benchmarks`), or running them (`runner`).
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.protocol import Protocol
from got_core.evaluate.samples import Drawn, Request

if TYPE_CHECKING:
    from PIL import Image

    from got_core.chain.grammar import Chain
    from got_core.model.pipeline import GoTPipeline

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

REPAIR_SLACK = 1
"""Pixels by which a repaired plan keeps its distance from every limit."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Another way of drawing the same requests, scored beside the plain one under a protocol of its own."""

    key: str = ""
    """Of its scores."""

    folder: str = ""
    """Of its pictures; and, behind `samples_`, of its table."""

    repaired: bool = False
    """From plans that are repaired where they fall short of their prompt."""

    keep_outside: bool = False
    """With the source picture kept outside the plan's boxes."""

    @property
    def sampler(self) -> dict[str, Any]:
        """Arguments for the pipeline besides the configured ones."""
        return {"keep_outside": True} if self.keep_outside else {}


AS_WRITTEN = Variant()
"""From the plans that the model wrote."""

VARIANTS = (
    Variant(key="repaired", folder="repaired", repaired=True),
    Variant(key="kept_outside", folder="kept", keep_outside=True),
    Variant(key="repaired_kept_outside", folder="repaired_kept", repaired=True, keep_outside=True),
)


@dataclass(frozen=True)
class EditRegion:
    """Where an edited picture may differ from its source."""

    source: Image.Image
    boxes: Sequence[Box]
    margin: int
    """Pixels around the boxes that may differ, too."""


@typing.runtime_checkable
class EditSuite(typing.Protocol):
    """A suite of edits that knows where each may change the picture."""

    def may_change(self, row: Mapping[str, Any]) -> EditRegion:
        """Of a row of its samples."""
        ...


class Suite(typing.Protocol):
    """One benchmark at one size: what a model has to draw, and how its pictures are judged.

    Requests are numbered from 0; the same number always means the same request.
    """

    name: ClassVar[str]
    """Of its protocol."""

    cluster: ClassVar[str]
    """Column of its samples of which equal values are not independent."""

    value: ClassVar[str]
    """Column of its samples of which the mean is a task's score: `correct`, or that of a figure."""

    mean_of: ClassVar[str]
    """Of what the overall score is the plain mean: `tasks` or `samples`."""

    columns: ClassVar[Mapping[str, pl.DataType]]
    """Of its table of samples: what `judge` gives, and what the runner fills in: `sample_id`, `index`,
    `prompt`, `seed`, `chain`, `image` (a storage name), `image_id` and `failure` (one of `scores.FAILURES` or
    null)."""

    @property
    def config(self) -> EvaluateConfig:
        """Its size, seeds and sampler."""
        ...

    @property
    def expected(self) -> Mapping[str, int]:
        """How many pictures each task has, in the order of the report."""
        ...

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What is drawn besides, and scored beside."""
        ...

    def protocol(self, variant: Variant = AS_WRITTEN) -> Protocol:
        """All that its scores depend on besides the model."""
        ...

    def requests(self, prefix: str) -> dict[int, Request]:
        """The pictures to draw, kept under `prefix`."""
        ...

    def repair(self, index: int, chain: Chain) -> Chain:
        """The plan of a request without the faults that can be repaired; itself where there are none."""
        ...

    def ceilings(self, pipeline: GoTPipeline) -> dict[str, Any]:
        """Scores of perfect pictures. Raises DetectorError where the judge cannot be trusted."""
        ...

    def judge(self, index: int, drawn: Drawn) -> dict[str, Any]:
        """The verdict on a picture: `task`, `sampling_seed`, `correct`, `plan_correct`, `plan_faults`, and
        what else is in `columns`; `failure` where the suite itself knows the cause."""
        ...

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        """What its scores hold besides those of every benchmark."""
        ...

    def grid(self, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> bytes:
        """The first pictures of each task as PNG, with planned boxes; empty without any."""
        ...


def sampler_arguments(config: EvaluateConfig) -> dict[str, Any]:
    """Arguments that the configuration forces on the pipeline; empty where the model's own defaults count."""
    return config.sampler


def chosen_variants(config: EvaluateConfig) -> tuple[Variant, ...]:
    """The variants that the configuration asks for."""
    return tuple(
        one
        for one in VARIANTS
        if (config.repair == "both" or not one.repaired)
        and (config.keep_outside == "both" or not one.keep_outside)
    )
