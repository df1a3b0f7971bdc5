"""Judging pictures: every question put once, answers kept, one row for every prompt.

Belongs here: what is asked in which order, and the table of answers. Not here: the judge (`server`), or
scores (`scoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import polars as pl

from got_core.evaluate.geneval.layout import Pictures
from got_core.evaluate.geneval2.prompts import Sample, Samples
from got_core.evaluate.geneval2.questions import Way
from got_core.evaluate.geneval2.scoring import SCALE, arithmetic_mean, geometric_mean
from got_core.evaluate.geneval2.server import Answer, JudgePaused, ServerJudge, Shown

Progress = Callable[[int, int], None]
"""Called with (done, total) pictures."""

ATOM = pl.Struct(
    {
        "question": pl.String(),
        "expected": pl.String(),
        "skill": pl.String(),
        "probability": pl.Float64(),
        "bound": pl.Float64(),
        "reply": pl.String(),
        "unscored": pl.String(),
    }
)
"""A question as it was put; `bound`: what may be missing from `probability`; `reply`: the first token."""

COLUMNS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "prompt_index": pl.Int32(),
    "task": pl.String(),
    "atoms": pl.Int32(),
    "prompt": pl.String(),
    "image": pl.String(),
    "image_sha256": pl.String(),
    "gm": pl.Float64(),
    "am": pl.Float64(),
    "unscored": pl.String(),
    "answers": pl.List(ATOM),
}
"""`gm` and `am` (Soft-TIFA, times 100) are null where `unscored` says why; `task`: the atomicity."""

MISSING = "the picture is missing"


def ask_all(
    samples: Samples,
    pictures: Pictures,
    judge: ServerJudge,
    progress: Progress | None = None,
    partial: bool = False,
) -> dict[str, list[Answer]]:
    """Answers to all questions about the pictures, by sample id; what is kept already is not asked again.

    The judge is tried on known drawings before it is asked anything. Raises JudgeError, and JudgePaused
    unless `partial`: what is then left has no answers.
    """
    todo = [sample for sample in samples.all if sample.id in pictures.found]
    answers = {one.id: _ask(one, pictures, judge) for one in todo if _is_kept(one, pictures, judge)}
    pending = [sample for sample in todo if sample.id not in answers]
    if progress:
        progress(len(answers), len(todo))
    try:
        if pending:
            judge.check()
        for sample, found in _side_by_side(pending, pictures, judge):
            answers[sample.id] = found
            if progress:
                progress(len(answers), len(todo))
    except JudgePaused as error:
        if not partial:
            raise
        left_out = [Answer(unscored=f"not asked: {error}")]
        answers |= {one.id: left_out * len(one.questions) for one in todo if one.id not in answers}
    return answers


def _is_kept(sample: Sample, pictures: Pictures, judge: ServerJudge) -> bool:
    digest = pictures.found[sample.id].sha256
    return all(judge.is_answered(judge.way.put(question), digest) for question in sample.questions)


def _side_by_side(
    pending: Sequence[Sample], pictures: Pictures, judge: ServerJudge
) -> Iterator[tuple[Sample, list[Answer]]]:
    """A thread for each picture under way: it is read once, and its questions follow each other."""
    threads = ThreadPoolExecutor(judge.config.concurrency, thread_name_prefix="judge")
    try:
        under_way = {threads.submit(_ask, sample, pictures, judge): sample for sample in pending}
        for done in as_completed(under_way):
            yield under_way[done], done.result()
    except BaseException:
        judge.stop()
        raise
    finally:
        threads.shutdown(cancel_futures=True)


def _ask(sample: Sample, pictures: Pictures, judge: ServerJudge) -> list[Answer]:
    read: list[Any] = []

    def image() -> Any:
        if not read:
            read.append(pictures.image(sample.id))
        return read[0]

    shown = Shown(sha256=pictures.found[sample.id].sha256, image=image)
    return [judge.ask(judge.way.put(question), shown) for question in sample.questions]


def table(
    samples: Samples, pictures: Pictures, answers: Mapping[str, Sequence[Answer]], way: Way
) -> pl.DataFrame:
    """One row (COLUMNS) for every prompt of the list, also for those that are missing or unscored."""
    problems = {one.sample: str(one) for one in pictures.problems}
    rows = []
    for sample in samples.all:
        picture, found = pictures.found.get(sample.id), answers.get(sample.id)
        rows.append(
            {
                "sample_id": sample.id,
                "prompt_index": sample.prompt_index,
                "task": sample.task,
                "atoms": sample.atoms,
                "prompt": sample.prompt,
                "image": picture.name if picture else None,
                "image_sha256": picture.sha256 if picture else None,
                **_figures(found or (), problems.get(sample.id, MISSING)),
                "answers": [_atom(*pair, way) for pair in zip(sample.questions, found or (), strict=False)],
            }
        )
    return pl.DataFrame(rows, schema=COLUMNS)


def _figures(found: Sequence[Answer], missing: str) -> dict[str, Any]:
    """Soft-TIFA of a prompt; none where a question has no answer."""
    unscored = next((one.unscored for one in found if one.unscored), None if found else missing)
    if unscored:
        return {"gm": None, "am": None, "unscored": unscored}
    values = [one.probability.found for one in found if one.probability]
    return {"gm": SCALE * geometric_mean(values), "am": SCALE * arithmetic_mean(values), "unscored": None}


def _atom(question: Any, answer: Answer, way: Way) -> dict[str, Any]:
    probability, reply = answer.probability, answer.reply
    return {
        "question": way.put(question).text,
        "expected": question.answer,
        "skill": question.skill,
        "probability": probability.found if probability else None,
        "bound": probability.bound if probability else None,
        "reply": reply.token if reply else None,
        "unscored": answer.unscored,
    }
