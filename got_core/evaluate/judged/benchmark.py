"""A judged benchmark, from its folder to scores.

    (definition,) = read_definitions(Path("judged/my_edits"), "judged/my_edits")
    benchmark = JudgedBenchmark.open(definition, Path("benchmarks"), judge=JudgeConfig(url=..., model=...))
    benchmark.write_layout(pipeline, Storage("pictures"))
    judged = benchmark.judge(Storage("pictures"), store=Storage("kept"))
    scores = benchmark.scores(judged.frame, protocol=benchmark.protocol(), canary=judged.canary)

Belongs here: its protocol, its steps and its scores. Not here: how a step is done (the other modules).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.emu_edit.drawing import draw_edits
from got_core.evaluate.emu_edit.folders import SUFFIXES, StoredPictures, read_pictures, storage_of
from got_core.evaluate.emu_edit.samples import Faults
from got_core.evaluate.judged import aggregation
from got_core.evaluate.judged.judging import MISSING, Progress, judge_samples
from got_core.evaluate.judged.prompts import Prompt, prompts_of
from got_core.evaluate.judged.samples import JudgedSamples, asked_about, read_samples
from got_core.evaluate.judged.shape import Ask, Definition
from got_core.evaluate.judged.watching import watch
from got_core.evaluate.judges.call import REFUSED, SCORED, UNANSWERED, UNREADABLE
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.judge import Judge
from got_core.evaluate.protocol import Network, Protocol, protocol_figures
from got_core.evaluate.scores import IncompleteRunError

if TYPE_CHECKING:
    from got_core.annotate.client import Notice
    from got_core.storage import Storage

VERSION = 1
"""Raise when code changes that can change a score of every judged benchmark."""

SEED = 20_250
"""Of the pictures that are drawn here, and of the resamples."""

NAMED = 5
"""Samples that an error names; it counts the others."""

STATES = (SCORED, REFUSED, UNREADABLE, UNANSWERED, MISSING)


class NoJudgeError(ValueError):
    """A benchmark that was opened for drawing was asked to judge."""


class Judged(NamedTuple):
    """What `judge` found."""

    frame: pl.DataFrame
    """Columns `judging.ROWS`."""

    canary: dict[str, Any] | None
    """Whether the judge still answers as at first (`judges.canary`)."""


@dataclass(frozen=True, kw_only=True)
class JudgedBenchmark:
    """A benchmark with its samples, and with a judge and its prompts where it is to judge."""

    definition: Definition
    samples: JudgedSamples
    config: JudgeConfig | None = None
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    batch_size: int = 16
    """Edits that are drawn in one call."""

    @classmethod
    def open(
        cls,
        definition: Definition,
        place: Path,
        *,
        judge: JudgeConfig | None = None,
        partial: bool = False,
    ) -> JudgedBenchmark:
        """With the samples of a download below `place` (GOT_BENCHMARKS), and with prompts for a judge.

        Raises BenchmarkDataError for samples, WordingError for published prompts, DefinitionError.
        """
        samples = read_samples(definition, place, partial=partial)
        prompts = prompts_of(definition, place) if judge else {}
        for sample in samples.all if judge else ():
            for ask in definition.asks:  # what cannot be asked is an error before anything is drawn
                if asked_about(ask, sample):
                    prompts[ask.name].text_for(sample.fields)
        return cls(definition=definition, samples=samples, config=judge, prompts=prompts)

    @property
    def name(self) -> str:
        """Such as `imagenhub/published`."""
        return self.definition.name

    @property
    def judge_config(self) -> JudgeConfig:
        """The judge. Raises NoJudgeError."""
        if self.config is None:
            raise NoJudgeError(
                f"{self.name} was opened without networks or a judge: it can draw, and nothing can be "
                "judged; it is judged by a vision model behind an OpenAI-compatible server: set "
                "GOT_JUDGE_URL and GOT_JUDGE_MODEL"
            )
        return self.config

    def place(self, key: str) -> str:
        """The file of an edited picture, relative to its folder, without its ending."""
        return self.samples.places.get(key, key)

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """All that scores depend on besides the model. Another list, judge or wording has another name.

        `plan`: whether the model drew from its plan (None: other people's pictures); `sampler`: what was
        forced on it.
        """
        judge, definition = self.judge_config, self.definition
        return Protocol(
            name="/".join([self.name, *self._suffixes(judge)]),
            version=definition.version,
            rules={"judging": VERSION, "questions": {one.name: _question(one) for one in definition.asks}},
            aggregation=aggregation.record(definition.scoring, SEED),
            networks={"judge": _network(judge)},
            prompt_texts={name: one.sha256 for name, one in self.prompts.items()},
            resize={
                "judge": "PNG in its own size",
                **({"edited": "to its source's size, bicubic"} if definition.resize != "none" else {}),
                **({"longest side": definition.longest} if definition.longest else {}),
            },
            samples=self.samples.record(),
            sampler=dict(sampler or {}),
            plan=plan,
        )

    def _suffixes(self, judge: JudgeConfig) -> list[str]:
        """What is unlike the published figures' way, as parts of the protocol's name."""
        wordings = [one.sha256[:12] for one in self.prompts.values() if one.published is False]
        own_judge = self.definition.judge.lower() != judge.short_name
        return [
            *([f"judge-{judge.short_name}"] if own_judge else []),
            *([f"wording-{'-'.join(wordings)}"] if wordings else []),
            *([] if self.samples.published else [f"samples-{self.samples.sha256()[:12]}"]),
        ]

    def write_layout(
        self,
        pipeline: PipelineOrDrawer,
        folder: Storage,
        *,
        plan: bool = True,
        sampler: Mapping[str, Any] | None = None,
        weights_hash: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Draw what is missing in a folder of the benchmark's layout (see `emu_edit.drawing.draw_edits`)."""
        return draw_edits(
            self.samples.as_edits(),
            self.samples.requests(),
            pipeline,
            folder,
            self.place,
            seed=SEED,
            plan=plan,
            sampler=sampler,
            weights_hash=weights_hash,
            batch_size=min(self.batch_size, batch_size or self.batch_size),
            progress=progress,
        )

    def read_layout(self, folder: Storage, *, partial: bool = False) -> StoredPictures:
        """Edited pictures of a folder. Raises BenchmarkDataError for missing, double and superfluous ones,
        unless `partial`."""
        stems = (_stem(name) for name in storage_of(folder).list()) if self.definition.besides else ()
        besides = [one for one in stems if any(fnmatchcase(one, two) for two in self.definition.besides)]
        edits = self.samples.as_edits()
        return read_pictures(edits, folder, self.place, besides=besides, partial=partial)

    def judge(
        self,
        folder: Storage,
        *,
        store: Storage,
        prefix: str = "answers",
        partial: bool = False,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> Judged:
        """A row for every sample (`judging.ROWS`); missing and unscored ones have no value.

        Answers are kept in `store` below `prefix`, so an interrupted run goes on; if all are there, no server
        is needed. Raises JudgeError where another model answers, JudgePaused where the server is gone or a
        setting is wrong, and BenchmarkDataError for pictures that are missing or cannot be read, unless
        `partial`: these are left out and have their reason.
        """
        pictures = self.read_layout(folder, partial=partial)
        with Judge(self.judge_config, store, prefix, notice=notice) as judge:
            frame = judge_samples(
                self.definition,
                self.samples,
                pictures,
                self.prompts,
                judge,
                progress=progress,
                partial=partial,
            )
            canary = watch(self.definition, self.prompts, judge)
        faults = Faults(storage_of(folder).url)
        for row in frame.filter(pl.col("state") == MISSING).iter_rows(named=True):
            faults.add("pictures that cannot be judged", f"{row['sample_id']}: {row['reason']}")
        faults.settle(partial=partial)
        return Judged(frame, canary)

    def scores(
        self,
        frame: pl.DataFrame,
        *,
        protocol: Protocol | None = None,
        partial: bool = False,
        canary: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Plain JSON: `overall`, `tasks`, `sets` and the mean of each score, with intervals and `n / N`.

        `states`: how many samples were scored, refused, unreadable, unanswered, missing; `canary`: as `judge`
        found it. Raises
        IncompleteRunError, which names samples and reasons, while one has no score, unless `partial`: all
        figures are then over the others, and say so. ValueError for a frame of another list.
        """
        _check_whole(frame, len(self.samples.all))
        left_out = frame.filter(pl.col("state") != SCORED)
        if left_out.height and not partial:
            raise IncompleteRunError(_lacking(left_out, frame.height))
        found, states = frame.height - left_out.height, _states(frame)
        return {
            **(protocol_figures(protocol) if protocol else {}),
            "benchmark": self.name,
            **aggregation.figures(frame, self.definition, SEED),
            "sets": {
                name: _part(frame.filter(pl.col("sets").list.contains(name)), self.definition)
                for name in self.definition.source.sets
            },
            "means": aggregation.mean_scores(frame, self.definition.score_names),
            "expected": frame.height,
            "found": found,
            "complete": not left_out.height,
            "partial": bool(left_out.height),
            "of": f"{found} / {frame.height}",
            "states": states,
            "unscored": _reasons(left_out),
            "judge": _judged_by(frame),
            "canary": dict(canary) if canary else None,
            "notes": [*self.samples.notes, *_about_states(states, frame.height), *_about_canary(canary)],
        }


def _question(ask: Ask) -> dict[str, Any]:
    """A question as a protocol has it; its text is there by its hash."""
    made: dict[str, Any] = {
        "shows": list(ask.shows),
        "pictures": "first" if ask.pictures_first else "after the text",
        "scores": {name: [ask.low, ask.high] for name in ask.scores},
        "reply": ask.reply,
        "max_tokens": ask.max_tokens,
    }
    if ask.choices:
        made["choices"] = list(ask.choices)
    if ask.only:
        made["only"] = {name: one if isinstance(one, bool) else list(one) for name, one in ask.only.items()}
    return made


def _network(judge: JudgeConfig) -> Network:
    return Network(
        name=judge.model,
        revision=judge.revision or judge.model,
        settings={"temperature": judge.temperature},
    )


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).as_posix()


def _part(rows: pl.DataFrame, definition: Definition) -> dict[str, Any]:
    """Figures of a part of the list."""
    found = rows.height - rows["value"].null_count()
    figures = aggregation.figures(rows, definition, SEED)
    return {**figures, "of": f"{found} / {rows.height}", "partial": found < rows.height}


def _states(frame: pl.DataFrame) -> dict[str, int]:
    counts = dict(frame["state"].value_counts().iter_rows())
    return {state: counts.get(state, 0) for state in STATES}


def _about_states(states: Mapping[str, int], total: int) -> list[str]:
    """One line for each way in which samples have no score."""
    words = {
        REFUSED: "the judge refused",
        UNREADABLE: "the judge's replies could not be read for",
        UNANSWERED: "the judge has not answered yet about",
        MISSING: "no picture that can be judged for",
    }
    return [
        f"{words[state]} {n} of {total} samples ({n / total:.1%})"
        for state, n in states.items()
        if n and state != SCORED
    ]


def _about_canary(canary: Mapping[str, Any] | None) -> list[str]:
    return [canary["note"]] if canary and canary.get("note") else []


def _judged_by(frame: pl.DataFrame) -> dict[str, Any]:
    """Who judged, and when its first and last answer was given."""
    asked = frame["asked"].drop_nulls()
    return {
        "models": sorted(frame["judge"].drop_nulls().unique().to_list()),
        "first": asked.min(),
        "last": asked.max(),
        "calls": int(frame["calls"].sum()),
        "cost": float(frame["cost"].sum()),
    }


def _check_whole(frame: pl.DataFrame, wanted: int) -> None:
    unlike = frame["sample_id"].n_unique()
    if not frame.height == unlike == wanted:
        raise ValueError(
            f"the rows are {frame.height} of {unlike} samples, the list has {wanted}; give one row for each, "
            "as `judge` makes them"
        )


def _reasons(left_out: pl.DataFrame) -> dict[str, int]:
    """Why samples have no score, and how often; the most frequent reasons, and all others together."""
    counts = left_out["reason"].fill_null("").value_counts().sort("count", "reason", descending=[True, False])
    reasons = dict(counts.head(NAMED).iter_rows())
    others = left_out.height - sum(reasons.values())
    return {**reasons, **({"other reasons": others} if others else {})}


def _lacking(left_out: pl.DataFrame, total: int) -> str:
    states = ", ".join(f"{n} {state}" for state, n in _states(left_out).items() if n)
    shown = [f"{row['sample_id']} ({row['reason']})" for row in left_out.head(NAMED).iter_rows(named=True)]
    more = f" and {left_out.height - NAMED} more" if left_out.height > NAMED else ""
    return (
        f"{total - left_out.height} / {total} samples are scored, {states}: {', '.join(shown)}{more}; draw "
        "or judge the rest, or ask for a partial score"
    )
