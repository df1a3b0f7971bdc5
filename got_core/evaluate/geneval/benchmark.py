"""The published GenEval, from its list of prompts to scores.

    benchmark = GenEval()
    samples = benchmark.read(Path("evaluation_metadata.jsonl"))
    benchmark.write_layout(samples, pipeline, Storage("pictures"))
    pictures = benchmark.read_layout(samples, Storage("pictures"))
    detector = Mask2Former(Path("mask2former"), ClipColours(Path("clip")), device="cuda")
    frame = benchmark.judge(samples, pictures, detector, store=Storage("judged"))
    scores = benchmark.scores(frame, protocol=benchmark.protocol(samples, detector))

Belongs here: its protocol, its steps and its scores. Not here: how a step is done (the other modules).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.geneval.config import GenEvalConfig
from got_core.evaluate.geneval.detections import Detector
from got_core.evaluate.geneval.drawing import write_layout
from got_core.evaluate.geneval.judging import Kept, asked_of, find_all, kept_key, verdicts
from got_core.evaluate.geneval.layout import Pictures, read_layout
from got_core.evaluate.geneval.prompts import Samples, read_samples
from got_core.evaluate.geneval.saved import write_detections
from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.samples import Progress
from got_core.evaluate.scores import IncompleteRunError, score_tasks
from got_core.planning.geneval import TASKS, GenEvalRules

if TYPE_CHECKING:
    from got_core.storage import Storage

VERSION = 1
"""Raise when code changes that can change a verdict."""

NOTHING: Mapping[str, Any] = MappingProxyType({"mean": None, "low": None, "high": None, "n": 0, "correct": 0})
"""A task none of whose pictures is judged."""

NAMED = 5
"""Samples that an error names; it counts the others."""


@dataclass(frozen=True, kw_only=True)
class GenEval:
    """GenEval with some numbers."""

    name: ClassVar[str] = "geneval"

    config: GenEvalConfig = field(default_factory=GenEvalConfig)
    rules: GenEvalRules = field(default_factory=GenEvalRules)

    def read(self, data: Path) -> Samples:
        """The samples of the user's `evaluation_metadata.jsonl`, or of another list in its format."""
        return read_samples(data, self.config.images_per_prompt)

    def protocol(
        self,
        samples: Samples,
        detector: Detector,
        *,
        plan: bool | None = None,
        sampler: Mapping[str, Any] | None = None,
    ) -> Protocol:
        """All that scores depend on besides the model. Another list or detector has another name.

        `plan`: whether the model drew from its plan (None: other people's pictures); `sampler`: what was
        forced on it.
        """
        record = detector.record
        own_list = [] if samples.published else [f"prompts-{samples.sha256[:12]}"]
        return Protocol(
            name="/".join([self.name, *([record.suffix] if record.suffix else []), *own_list]),
            version=VERSION,
            rules=dataclasses.asdict(self.rules),
            detector=dict(record.detector),
            sampler=dict(sampler or {}),
            aggregation={
                "task": "mean over images",
                "overall": f"plain mean of {', '.join(samples.tasks)}",
                "interval": "95 % percentile bootstrap over the prompts of a task, each with all its images, "
                f"{self.config.bootstrap} resamples",
            },
            networks=dict(record.networks),
            prompt_texts=dict(record.prompt_texts),
            resize=dict(record.resize),
            samples=samples.record(),
            plan=plan,
        )

    def write_layout(
        self,
        samples: Samples,
        pipeline: PipelineOrDrawer,
        folder: Storage,
        *,
        plan: bool = True,
        sampler: Mapping[str, Any] | None = None,
        weights_hash: str | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Draw what is missing in a folder of the official layout (see `drawing.write_layout`)."""
        return write_layout(
            samples,
            pipeline,
            folder,
            seed=self.config.seed,
            plan=plan,
            sampler=sampler,
            weights_hash=weights_hash,
            batch_size=self.config.batch_size,
            progress=progress,
        )

    def read_layout(
        self,
        samples: Samples,
        folder: Storage,
        *,
        size: tuple[int, int] | None = None,
        partial: bool = False,
    ) -> Pictures:
        """The pictures of a folder of the official layout (see `layout.read_layout`)."""
        return read_layout(samples, folder, size=size, partial=partial)

    def judge(
        self,
        samples: Samples,
        pictures: Pictures | None,
        detector: Detector,
        progress: Progress | None = None,
        store: Storage | None = None,
        prefix: str = "detections",
    ) -> pl.DataFrame:
        """A verdict on every sample (`judging.COLUMNS`); missing and unscored ones have none.

        What was found is kept in `store` under `prefix`, picture by picture, so an interrupted run goes on.
        Saved detections need no `pictures`. Raises DetectorError where the detector cannot be trusted.
        """
        kept = self._kept(detector, store, prefix)
        found = find_all(samples, pictures, detector, kept, self.rules, progress)
        return verdicts(samples, pictures, found, self.rules)

    def _kept(self, detector: Detector, store: Storage | None, prefix: str) -> Kept | None:
        key = kept_key(detector, self.rules)
        return Kept(storage=store, prefix=prefix, key=key) if store else None

    def save_detections(
        self,
        samples: Samples,
        pictures: Pictures,
        detector: Detector,
        path: Path,
        store: Storage,
        prefix: str = "detections",
    ) -> int:
        """Write what `judge` has kept to a file for `SavedDetections` (JSON lines or parquet); how many
        pictures it is about."""
        kept, asked = self._kept(detector, store, prefix), asked_of(samples, pictures)
        found = kept.read(asked) if kept else {}
        pairs = [(one, found[one.sample.id]) for one in asked if one.sample.id in found]
        write_detections(path, pairs, detector.record)
        return len(pairs)

    def scores(
        self, frame: pl.DataFrame, *, protocol: Protocol | None = None, partial: bool = False
    ) -> dict[str, Any]:
        """Task means, overall, share of prompts with any right picture, intervals, `n / N` beside each.

        Raises IncompleteRunError, which names samples and reasons, while one is missing or unscored, unless
        `partial`: all figures are then over the others, and say so. ValueError for a frame that has not one
        row for each sample of the protocol.
        """
        _check_whole(frame, protocol)
        left_out = frame.filter(pl.col("correct").is_null())
        if left_out.height and not partial:
            raise IncompleteRunError(_lacking(left_out, frame.height))
        expected = {task: frame.filter(pl.col("task") == task).height for task in _tasks(frame)}
        judged = frame.filter(pl.col("correct").is_not_null())
        scores = score_tasks(
            judged,
            expected=expected,
            partial=partial,
            bootstrap=self.config.bootstrap,
            seed=self.config.seed,
            cluster="prompt_index",
        )
        tasks = {task: scores["tasks"].get(task) or dict(NOTHING) for task in expected}
        tasks = {task: one | _shares(one["n"], expected[task]) for task, one in tasks.items()}
        if NOTHING["n"] in (one["n"] for one in tasks.values()):  # then there is no mean of all tasks
            scores |= dict.fromkeys(("overall", "low", "high"))
        return {
            **(protocol_figures(protocol) if protocol else {}),
            **scores,
            "tasks": tasks,
            **_shares(judged.height, frame.height),
            "unscored": _reasons(left_out),
        }


def _check_whole(frame: pl.DataFrame, protocol: Protocol | None) -> None:
    wanted = protocol.samples["prompts"] * protocol.samples["images_per_prompt"] if protocol else frame.height
    unlike = frame["sample_id"].n_unique()
    if not frame.height == unlike == wanted:
        raise ValueError(
            f"the verdicts have {frame.height} rows of {unlike} samples, the protocol has {wanted} samples; "
            "give one row for each, as `judge` makes them"
        )


def _tasks(frame: pl.DataFrame) -> list[str]:
    there = set(frame["task"])
    return [task for task in TASKS if task in there]


def _shares(found: int, expected: int) -> dict[str, Any]:
    """`n / N`, and whether a figure is over a part only."""
    return {"of": f"{found} / {expected}", "partial": found < expected}


def _reasons(left_out: pl.DataFrame) -> dict[str, int]:
    """Why pictures have no verdict, and how often; the most frequent reasons, and all others together."""
    counts = left_out["unscored"].value_counts().sort("count", "unscored", descending=[True, False])
    reasons = dict(counts.head(NAMED).iter_rows())
    others = left_out.height - sum(reasons.values())
    return {**reasons, **({"other reasons": others} if others else {})}


def _lacking(left_out: pl.DataFrame, total: int) -> str:
    shown = [f"{row['sample_id']} ({row['unscored']})" for row in left_out.head(NAMED).iter_rows(named=True)]
    more = f" and {left_out.height - NAMED} more" if left_out.height > NAMED else ""
    return (
        f"{total - left_out.height} / {total} pictures are judged; not judged: {', '.join(shown)}{more}; "
        "draw or judge the rest, or ask for a partial score"
    )
