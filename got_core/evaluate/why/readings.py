"""What a row of any benchmark's table says, in one form.

    ADAPTERS    one for each kind of table, told by its columns: what benchmarks on scenes leave, what a
    detector found, answers to questions, replies of a judge, figures

Belongs here: reading rows; a benchmark with another kind of table gets an adapter here and nothing elsewhere.
Not here: which tables there are (`cells`), and whatever is not in the row (`pictures`, `neighbours`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from got_core.evaluate.why.values import (
    FoundObject,
    asked_for,
    number,
    objects_of,
    parsed,
    text,
    texts,
    whole,
)

Row = Mapping[str, Any]

RIGHT, WRONG, MEASURED, UNSCORED = "right", "wrong", "measured", "not scored"
STATES = (RIGHT, WRONG, MEASURED, UNSCORED)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a judge was asked and said, in its words."""

    question: str | None = None
    """None where the question is the benchmark's prompt, which its protocol names."""

    expected: str | None = None
    reply: str | None = None
    value: float | None = None
    """The probability of the expected answer, or what was read of the reply."""

    unscored: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judge's part."""

    answers: tuple[Answer, ...]
    judge: str | None = None
    asked: str | None = None
    """When, in UTC."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the row says of the plan; all None where it says nothing."""

    chain: str | None = None
    """In data form."""

    correct: bool | None = None
    faults: tuple[str, ...] = ()
    """Kinds of fault."""

    reason: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the benchmark came to."""

    state: str
    """One of STATES."""

    cause: str | None = None
    """Of a wrong picture: one of `scores.FAILURES`, where the benchmark tells them apart."""

    reason: str | None = None
    value: float | None = None
    figures: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A row, read."""

    kind: str
    """The adapter's."""

    sample_id: str
    """As the table names it."""

    name: str
    """By which it is asked for."""

    verdict: Verdict
    task: str | None = None
    prompt: str | None = None
    asks: str | None = None
    """What the prompt asks for, as the benchmark's rules have it."""

    index: int | None = None
    """Number of the picture among the benchmark's requests."""

    seed: int | None = None
    sampling_seed: int | None = None
    plan: Planned = field(default_factory=Planned)
    image: str | None = None
    """Name of the picture, in the place that the scores name."""

    image_sha256: str | None = None
    source: str | None = None
    source_sha256: str | None = None
    found: tuple[FoundObject, ...] | None = None
    """None: nothing looks for objects here."""

    judged: Judged | None = None


@dataclass(frozen=True)
class Adapter:
    """How one kind of table is read."""

    kind: str
    columns: frozenset[str]
    """A table that has them all is of this kind; the first adapter that fits counts."""

    read: Callable[[Row], dict[str, Any]]
    """Fields of a Reading besides those that any table gives (`reading_of`)."""

    wanted: Callable[[Row], bool] = lambda row: True
    """Whether a row is of a sample at all."""


def adapter_of(columns: Mapping[str, Any] | Iterator[str] | list[str]) -> Adapter:
    """The adapter for a table with these columns; of unknown tables what all have in common is read."""
    there = frozenset(columns)
    return next(one for one in ADAPTERS if one.columns <= there)


def reading_of(row: Row, adapter: Adapter) -> Reading:
    """A row, read. Never raises for what stands in a row: what cannot be understood is left out."""
    from got_core.evaluate.why.address import cell_name

    common: dict[str, Any] = {
        "kind": adapter.kind,
        "sample_id": str(row.get("sample_id") or row.get("sample") or ""),
        "name": cell_name(row),
        "task": text(row.get("task")),
        "prompt": text(row.get("prompt")) or text(row.get("instruction")),
        "index": whole(row.get("index")),
        "seed": whole(row.get("seed")),
        "sampling_seed": whole(row.get("sampling_seed")),
        "image": text(row.get("image")),
        "image_sha256": text(row.get("image_id")) or text(row.get("image_sha256")),
        "source": text(row.get("source_image")),
        "source_sha256": text(row.get("source_sha256")),
        "plan": _planned(row),
        "verdict": _verdict(row),
        "found": objects_of(row["found"]) if row.get("found") is not None else None,
    }
    return Reading(**(common | adapter.read(row)))


# -- what all tables have in common ------------------------------------------------------------------


def _verdict(row: Row) -> Verdict:
    correct, value = row.get("correct"), number(row.get("value"))
    unscored = text(row.get("unscored"))
    state = _state(correct, value, unscored)
    return Verdict(
        state=state,
        cause=text(row.get("failure")) if state != RIGHT else None,
        reason=text(row.get("reason")) or unscored,
        value=value,
    )


def _state(correct: Any, value: float | None, unscored: str | None) -> str:
    if isinstance(correct, bool):
        return RIGHT if correct else WRONG
    return MEASURED if value is not None and not unscored else UNSCORED


def _planned(row: Row) -> Planned:
    figures = {name: number(row.get(name)) for name in ("plan_iou", "place_iou", "grounding_iou")}
    correct = row.get("plan_correct")
    return Planned(
        chain=text(row.get("chain")),
        correct=correct if isinstance(correct, bool) else None,
        faults=texts(row.get("plan_faults")) or texts(row.get("plan_failed")),
        reason=text(row.get("plan_reason")),
        figures={name: value for name, value in figures.items() if value is not None},
    )


def with_plan(reading: Reading, row: Row) -> Reading:
    """The reading with what a table of pictures against plans says, where the row itself says nothing."""
    plan = _planned(row)
    if reading.plan.chain is not None or plan.chain is None:
        return reading
    cause, verdict = text(row.get("failure")), reading.verdict
    if verdict.cause is None and verdict.state == WRONG and cause:
        verdict = replace(verdict, cause=cause)
    names = ("inside", "area", "planned", "in_place", "iou", "unread")
    figures = {name: number(row.get(name)) for name in names}
    more = {name: value for name, value in figures.items() if value is not None}
    return replace(reading, plan=replace(plan, figures={**plan.figures, **more}), verdict=verdict)


_OUTSIDE = ("region", "change_outside", "changed_outside", "psnr_outside", "ssim_outside", "left_out")


def with_outside(reading: Reading, row: Row) -> Reading:
    """The reading with what changed outside the region of an edit, from the table of that."""
    values = {name: text(row.get(name)) or number(row.get(name)) for name in _OUTSIDE}
    known = {f"outside: {name}": value for name, value in values.items() if value is not None}
    figures = {**reading.verdict.figures, **known}
    return replace(reading, verdict=replace(reading.verdict, figures=figures))


# -- kinds of tables ---------------------------------------------------------------------------------


_NO_FIGURES = frozenset(
    ("index", "case", "sampling_seed", "seed", "correct", "value", "plan_correct", "plan_iou", "place_iou")
) | {"grounding_iou"}


def _scenes(row: Row) -> dict[str, Any]:
    """Each benchmark on scenes has figures of its own: every number and mark of the row is one."""
    figures = {name: _figure(value) for name, value in row.items() if name not in _NO_FIGURES}
    known = {name: value for name, value in figures.items() if value is not None}
    return {
        "verdict": replace(_verdict(row), figures=known),
        "asks": asked_for(parsed(row.get("metadata"))),
    }


def _figure(value: Any) -> float | str | None:
    return ("yes" if value else "no") if isinstance(value, bool) else number(value)


def _detections(row: Row) -> dict[str, Any]:
    failed = texts(row.get("failed"))
    return {"verdict": replace(_verdict(row), figures={"failed": ", ".join(failed)} if failed else {})}


def _answers(row: Row) -> dict[str, Any]:
    gm, am = number(row.get("gm")), number(row.get("am"))
    figures = {"gm": gm, "am": am}
    unscored = text(row.get("unscored"))
    verdict = Verdict(
        state=_state(None, gm, unscored),
        reason=unscored,
        value=gm,
        figures={name: value for name, value in figures.items() if value is not None},
    )
    answers = row.get("answers")
    rows = [one for one in answers if isinstance(one, dict)] if isinstance(answers, list) else []
    return {"verdict": verdict, "judged": Judged(answers=tuple(map(_answer, rows)))}


def _answer(one: Row) -> Answer:
    return Answer(
        question=text(one.get("question")),
        expected=text(one.get("expected")),
        reply=text(one.get("reply")),
        value=number(one.get("probability")),
        unscored=text(one.get("unscored")),
    )


def _replies(row: Row) -> dict[str, Any]:
    state, reason = text(row.get("state")), text(row.get("reason"))
    given, names = row.get("scores"), texts(row.get("score_names"))
    values = [number(one) for one in given] if isinstance(given, list) else []
    names = names if len(names) == len(values) else tuple(f"score {n + 1}" for n in range(len(values)))
    scores = {name: one for name, one in zip(names, values, strict=True) if one is not None}
    scored = state == "scored"
    common = _verdict(row)
    verdict = Verdict(
        state=common.state if scored or state is None else UNSCORED,
        reason=reason if scored or state is None else f"{state}: {reason}" if reason else state,
        value=common.value,
        figures=scores,
    )
    answer = Answer(
        question=text(row.get("question")), reply=text(row.get("reply")),
        unscored=None if scored else state,
    )  # fmt: skip
    judged = Judged(answers=(answer,), judge=text(row.get("judge")), asked=text(row.get("asked")))
    return {"verdict": verdict, "judged": judged}


_METRICS = ("clip_i", "clip_t", "clip_dir", "l1", "l2", "dino")


def _figures(row: Row) -> dict[str, Any]:
    figures = {name: value for name in _METRICS if (value := number(row.get(name))) is not None}
    state, reason = text(row.get("state")), text(row.get("reason"))
    marks = {
        "resized": "it had another size",
        "unchanged": "it is the source, byte by byte",
        "caption_cut": "a caption is longer than CLIP reads",
    }
    noted = [text for name, text in marks.items() if row.get(name) is True]
    noted += [f"left out of the filtered score: {bad}"] if (bad := text(row.get("bad"))) else []
    judged = state == "judged"
    verdict = Verdict(
        state=MEASURED if judged else UNSCORED,
        reason="; ".join(([] if judged else [f"{state}: {reason}" if reason else str(state)]) + noted)
        or None,
        figures=figures,
    )
    return {
        "verdict": verdict,
        "image_sha256": text(row.get("edited_sha256")),
    }


def _nothing(row: Row) -> dict[str, Any]:
    return {}


ADAPTERS = (
    Adapter("scenes", frozenset({"index", "found", "plan_correct"}), _scenes),
    Adapter("detections", frozenset({"sample_id", "found", "failed"}), _detections),
    Adapter("answers", frozenset({"sample_id", "answers"}), _answers),
    Adapter("replies", frozenset({"sample_id", "reply", "state"}), _replies),
    Adapter(
        "figures", frozenset({"sample", "kind", "clip_t"}), _figures, lambda row: row["kind"] == "edited"
    ),
    Adapter("rows", frozenset(), _nothing),
)
"""The last one takes any table."""
