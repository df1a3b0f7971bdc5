"""GenEval 2, from its list of prompts and questions to scores.

    benchmark = GenEval2()
    samples = benchmark.read(Path("GenEval2"))
    benchmark.write_layout(samples, pipeline, Storage("pictures"))
    pictures = benchmark.read_layout(samples, Storage("pictures"))
    judge = JudgeConfig(url="http://gpu-1:8000/v1", model="Qwen/Qwen3-VL-8B-Instruct")
    frame = benchmark.judge(samples, pictures, judge, store=Storage("judged"))
    scores = benchmark.scores(frame, protocol=benchmark.protocol(samples, judge))

Belongs here: its protocol, its steps and its scores. Not here: how a step is done (the other modules).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.geneval.layout import Pictures
from got_core.evaluate.geneval2.config import GenEval2Config, JudgeConfig
from got_core.evaluate.geneval2.drawing import write_layout
from got_core.evaluate.geneval2.judging import Progress, ask_all, table
from got_core.evaluate.geneval2.layout import read_layout
from got_core.evaluate.geneval2.prompts import SKILLS, Samples, read_samples
from got_core.evaluate.geneval2.questions import NUMBERS, Way
from got_core.evaluate.geneval2.scoring import (
    arithmetic_mean,
    empty_figure,
    geometric_mean,
    mean_over_prompts,
    mean_over_questions,
)
from got_core.evaluate.geneval2.server import ServerJudge
from got_core.evaluate.protocol import Network, Protocol, protocol_figures
from got_core.evaluate.scores import IncompleteRunError

if TYPE_CHECKING:
    from got_core.annotate.client import Notice
    from got_core.storage import Storage

VERSION = 1
"""Raise when code changes that can change a score."""

NAMED = 5
"""Samples that an error names; it counts the others."""


@dataclass(frozen=True, kw_only=True)
class GenEval2:
    """GenEval 2 with some numbers, and one way to put its questions (`questions`)."""

    config: GenEval2Config = field(default_factory=GenEval2Config)
    way: Way = NUMBERS

    @property
    def name(self) -> str:
        """`geneval2` or `geneval2/published`."""
        return self.way.name

    def read(self, data: Path) -> Samples:
        """The samples of the user's checkout, or of another list in the format of its list."""
        return read_samples(data)

    def protocol(
        self,
        samples: Samples,
        judge: JudgeConfig,
        *,
        plan: bool | None = None,
        sampler: Mapping[str, Any] | None = None,
    ) -> Protocol:
        """All that scores depend on besides the model. Another list, judge or wording has another name.

        `plan`: whether the model drew from its plan (None: other people's pictures); `sampler`: what was
        forced on it.
        """
        own_judge = [] if judge.published else [f"judge-{judge.short_name}"]
        own_list = [] if samples.published else [f"prompts-{samples.sha256[:12]}"]
        wording = [self.way.suffix] if self.way.suffix else []
        return Protocol(
            name="/".join([self.name, *own_judge, *wording, *own_list]),
            version=VERSION,
            rules=dict(self.way.rules),
            sampler=dict(sampler or {}),
            aggregation={
                "prompt": "geometric mean of the probabilities of its answers (Soft-TIFA GM), times 100",
                "overall": "plain mean over prompts",
                "atomicity": "the same over its prompts",
                "skill": "mean of the probabilities of its answers (Soft-TIFA AM), times 100",
                "interval": "95 % percentile bootstrap over prompts, each with all its questions, "
                f"{self.config.bootstrap} resamples",
            },
            networks={"judge": _network(judge), **self.way.networks},
            prompt_texts=dict(self.way.prompt_texts),
            resize={"judge": "PNG in its own size"},
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
        listing: str | None = None,
        size: tuple[int, int] | None = None,
        partial: bool = False,
    ) -> Pictures:
        """The pictures of a folder of the official layout (see `layout.read_layout`)."""
        return read_layout(samples, folder, listing=listing, size=size, partial=partial)

    def judge(
        self,
        samples: Samples,
        pictures: Pictures,
        judge: JudgeConfig,
        *,
        store: Storage,
        prefix: str = "answers",
        partial: bool = False,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> pl.DataFrame:
        """A row for every prompt (`judging.COLUMNS`); missing and unscored ones have no figures.

        Answers are kept in `store` under `prefix`, so an interrupted run goes on; if all are there, no
        server is needed. Raises JudgeError where the judge cannot be trusted, and JudgePaused where the
        server is gone or a setting is wrong, unless `partial`: what is left is then unscored.
        """
        for sample in samples.all:
            for question in sample.questions:
                self.way.put(question)  # what cannot be put is an error before anything is asked
        with ServerJudge(judge, self.way, store, prefix, notice) as server:
            answers = ask_all(samples, pictures, server, progress, partial)
        return table(samples, pictures, answers, self.way)

    def scores(
        self, frame: pl.DataFrame, *, protocol: Protocol | None = None, partial: bool = False
    ) -> dict[str, Any]:
        """Soft-TIFA of all prompts, by atomicity (`tasks`) and by skill, times 100; intervals, `n / N`.

        `cut` beside a figure: what it is if tokens that the server did not give count 0, and at most if they
        count as much as they may. Raises IncompleteRunError, which names samples and reasons, while one is
        missing or unscored, unless `partial`: all figures are then over the others, and say so. ValueError
        for a frame that has not one row for each sample of the protocol.
        """
        _check_whole(frame, protocol)
        left_out = frame.filter(pl.col("gm").is_null())
        if left_out.height and not partial:
            raise IncompleteRunError(_lacking(left_out, frame.height))
        judged = frame.filter(pl.col("gm").is_not_null())
        figures = _Figures(judged, np.random.default_rng(self.config.seed), self.config.bootstrap)
        whole = figures.prompts(judged, geometric_mean)
        return {
            **(protocol_figures(protocol) if protocol else {}),
            "benchmark": self.name,
            "overall": whole["mean"],
            "low": whole["low"],
            "high": whole["high"],
            "cut": whole["cut"],
            "scale": 100,
            "tasks": _by_atomicity(frame, judged, figures),
            "skills": _by_skill(frame, judged, figures),
            "soft_tifa_gm": whole,
            "soft_tifa_am": figures.prompts(judged, arithmetic_mean),
            "questions": figures.questions,
            "above_one": figures.above_one,
            "expected": frame.height,
            "found": judged.height,
            "complete": not left_out.height,
            **_shares(judged.height, frame.height),
            "unscored": _reasons(left_out),
        }


def _network(judge: JudgeConfig) -> Network:
    return Network(
        name=judge.model,
        revision=judge.revision or judge.model,
        settings={"temperature": judge.temperature, "top_logprobs": judge.top_logprobs},
    )


class _Figures:
    """Means of the probabilities in some rows, each with its interval."""

    def __init__(self, judged: pl.DataFrame, rng: np.random.Generator, bootstrap: int) -> None:
        self._rng, self._bootstrap = rng, bootstrap
        values = [one for row in judged["answers"].to_list() for one in row]
        self.questions = len(values)
        self.above_one = sum(one["probability"] > 1 + 1e-9 for one in values)

    def prompts(self, rows: pl.DataFrame, of_prompt: Any) -> dict[str, Any]:
        """Over prompts."""
        if not rows.height:
            return dict(empty_figure())
        found, highest = _values(rows)
        return mean_over_prompts(found, highest, of_prompt, self._rng, self._bootstrap)

    def questions_of(self, rows: pl.DataFrame, skill: str) -> dict[str, Any]:
        """Over the questions of one skill."""
        found, highest = _values(rows, skill)
        return (
            mean_over_questions(found, highest, self._rng, self._bootstrap) if found else dict(empty_figure())
        )


def _values(rows: pl.DataFrame, skill: str | None = None) -> tuple[list[list[float]], list[list[float]]]:
    """Probabilities of each prompt as found, and at most; only of one skill, and prompts that have it."""
    chosen = [
        [one for one in row if skill is None or one["skill"] == skill] for row in rows["answers"].to_list()
    ]
    kept = [row for row in chosen if row]
    found = [[one["probability"] for one in row] for row in kept]
    return found, [[one["probability"] + one["bound"] for one in row] for row in kept]


def _by_atomicity(frame: pl.DataFrame, judged: pl.DataFrame, figures: _Figures) -> dict[str, Any]:
    tasks = dict(frame.sort("atoms").group_by("task", maintain_order=True).len().iter_rows())
    return {
        task: (one := figures.prompts(judged.filter(pl.col("task") == task), geometric_mean))
        | _shares(one["n"], expected)
        for task, expected in tasks.items()
    }


def _by_skill(frame: pl.DataFrame, judged: pl.DataFrame, figures: _Figures) -> dict[str, Any]:
    """Of the skills that the list has questions of; how many of a missing picture's, its row does not say."""
    present = {one["skill"] for row in frame["answers"].to_list() for one in row}
    partial = judged.height < frame.height
    return {
        skill: (one := figures.questions_of(judged, skill))
        | {"of": f"{one['n']} questions of {judged.height} / {frame.height} prompts", "partial": partial}
        for skill in SKILLS
        if skill in present
    }


def _check_whole(frame: pl.DataFrame, protocol: Protocol | None) -> None:
    wanted = protocol.samples["prompts"] if protocol else frame.height
    unlike = frame["sample_id"].n_unique()
    if not frame.height == unlike == wanted:
        raise ValueError(
            f"the answers have {frame.height} rows of {unlike} samples, the protocol has {wanted} samples; "
            "give one row for each, as `judge` makes them"
        )


def _shares(found: int, expected: int) -> dict[str, Any]:
    """`n / N`, and whether a figure is over a part only."""
    return {"of": f"{found} / {expected}", "partial": found < expected}


def _reasons(left_out: pl.DataFrame) -> dict[str, int]:
    """Why prompts have no figures, and how often; the most frequent reasons, and all others together."""
    counts = left_out["unscored"].value_counts().sort("count", "unscored", descending=[True, False])
    reasons = dict(counts.head(NAMED).iter_rows())
    others = left_out.height - sum(reasons.values())
    return {**reasons, **({"other reasons": others} if others else {})}


def _lacking(left_out: pl.DataFrame, total: int) -> str:
    shown = [
        f"{row['sample_id']} {row['prompt'][:60]!r} ({row['unscored']})"
        for row in left_out.head(NAMED).iter_rows(named=True)
    ]
    more = f" and {left_out.height - NAMED} more" if left_out.height > NAMED else ""
    return (
        f"{total - left_out.height} / {total} prompts are judged; not judged: {', '.join(shown)}{more}; "
        "draw or judge the rest, or ask for a partial score"
    )
