"""GenEval as a published benchmark.

Belongs here: GenEval behind the interface of `benchmark`. Not here: GenEval (`evaluate.geneval`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.chain.grammar import parse_tolerant
from got_core.corpus.decode import decode_image
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.detections import Detector
from got_core.evaluate.geneval.layout import LIMITS, drawing_record
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.geneval.saved import SavedDetections
from got_core.evaluate.published.benchmark import OUTCOMES, PublishedBenchmark, no_judge
from got_core.figures.grids import GridItem, picture_grid, png_bytes

if TYPE_CHECKING:
    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.samples import Progress
    from got_core.storage import Storage

METADATA = "geneval/evaluation_metadata.jsonl"
DETECTOR = "networks/mask2former-swin-small-coco-instance"
COLOURS = "networks/clip-vit-large-patch14"
KNOWN = "geneval/known.jsonl"
"""The user's known pictures, if there are any, on which the networks are tried (`geneval.known`)."""

_SHOWN = 6


def open_geneval(
    benchmark: PublishedBenchmark,
    place: Path,
    *,
    device: str,
    dtype: str,
    networks: bool,
    judge: Detector | None,
    partial: bool,
) -> OpenedGenEval:
    """GenEval with the list below `place`, judged by the networks there or by another detector."""
    geneval = GenEval()
    samples = geneval.read(place / METADATA)
    detector = load_detector(place, device=device, dtype=dtype) if networks else judge
    return OpenedGenEval(benchmark.name, geneval, samples, detector)


def load_detector(place: Path, *, device: str, dtype: str = "float32") -> Detector:
    """The detector with its classifier of colours, from the downloads below `place`."""
    from got_core.evaluate.geneval.colours import ClipColours
    from got_core.evaluate.geneval.known import read_known
    from got_core.evaluate.geneval.mask2former import Mask2Former

    colours = ClipColours(place / COLOURS, device=device, dtype=dtype)
    known = read_known(place / KNOWN) if (place / KNOWN).is_file() else ()
    return Mask2Former(place / DETECTOR, colours, device=device, dtype=dtype, known=known)


class OpenedGenEval:
    """GenEval with its list, and with a detector where it is to judge (see `benchmark.Opened`)."""

    def __init__(self, name: str, benchmark: GenEval, samples: Samples, detector: Detector | None) -> None:
        self.name, self.benchmark, self.samples, self._detector = name, benchmark, samples, detector
        self.notes: tuple[str, ...] = (samples.note,) if samples.note else ()

    @property
    def detector(self) -> Detector:
        """What finds objects. Raises NothingJudgesError."""
        if self._detector is None:
            raise no_judge(self.name)
        return self._detector

    def check(self) -> None:
        """Try the detector on known pictures."""
        self.detector.check(self.samples.classes, self.benchmark.rules)

    def generate(self, drawer: Any, folder: Storage, *, batch_size: int | None = None, **options: Any) -> int:
        """See `GenEval.write_layout`."""
        config = self.benchmark.config
        fewer = replace(config, batch_size=min(config.batch_size, batch_size or config.batch_size))
        bench = replace(self.benchmark, config=fewer)
        return bench.write_layout(self.samples, drawer, folder, **options)

    def judge(
        self,
        folder: Storage | None,
        *,
        store: Storage,
        prefix: str,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """A verdict on every sample. Saved detections need no folder."""
        if folder is None and not isinstance(self.detector, SavedDetections):
            raise ValueError(f"{self.name} judges pictures: name their folder, or give saved detections")
        detector = self.detector
        pictures = self.benchmark.read_layout(self.samples, folder, partial=partial) if folder else None
        return self.benchmark.judge(self.samples, pictures, detector, progress, store, prefix)

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """See `GenEval.protocol`."""
        return self.benchmark.protocol(self.samples, self.detector, plan=plan, sampler=sampler)

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol, partial: bool = False) -> dict[str, Any]:
        """See `GenEval.scores`."""
        scores = self.benchmark.scores(frame, protocol=protocol, partial=partial)
        return {"benchmark": self.name, **scores, "notes": list(self.notes)}

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """One row a picture; prompts are the clusters."""
        return frame.with_columns(
            pl.col("prompt_index").cast(pl.String).alias("cluster"),
            pl.col("correct").cast(pl.Float64).alias("value"),
        ).select(OUTCOMES)

    def grid(self, folder: Storage | None, frame: pl.DataFrame) -> bytes:
        """The first pictures of each task, with planned boxes where the project drew them."""
        items = list(_items(folder, frame)) if folder else []
        return png_bytes(picture_grid(items, columns=_SHOWN)) if items else b""


def _items(folder: Storage, frame: pl.DataFrame) -> Iterator[GridItem]:
    shown = frame.filter(pl.col("image").is_not_null()).group_by("task", maintain_order=True).head(_SHOWN)
    for row in shown.iter_rows(named=True):
        data = folder.read_bytes(row["image"])
        image = decode_image(data, LIMITS)
        yield GridItem(image, row["prompt"], _outlines(data), row["correct"], row["unscored"] or "")


def _outlines(data: bytes) -> tuple[tuple[tuple[float, float, float, float], str], ...]:
    """Planned boxes of a picture that the project drew."""
    text = (drawing_record(data) or {}).get("chain")
    chain = parse_tolerant(text)[0] if isinstance(text, str) else None
    return tuple((one.box.to_pixels(1, 1), one.color) for one in chain.boxes) if chain else ()
