"""Judging edited pictures: every question put once, one row for each sample of the list.

Belongs here: what the judge is shown and asked, and the table of what became of it. Not here: the judge
(`judges`), reading replies (`readers`), formulas (`aggregation`).
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from PIL import Image, UnidentifiedImageError

from got_core.evaluate.emu_edit.folders import StoredPictures
from got_core.evaluate.emu_edit.measuring import FORMATS, decode
from got_core.evaluate.geneval.layout import drawing_fault, drawing_record
from got_core.evaluate.judged.aggregation import sample_value
from got_core.evaluate.judged.prompts import Prompt
from got_core.evaluate.judged.readers import Reader, reader_of
from got_core.evaluate.judged.samples import JudgedSample, JudgedSamples, asked_about
from got_core.evaluate.judged.shape import EDITED, SOURCE, Ask, Definition
from got_core.evaluate.judges.call import SCORED, UNANSWERED, Call, Shown, Verdict
from got_core.evaluate.judges.faults import JudgePaused
from got_core.evaluate.judges.judge import Judge

Progress = Callable[[int, int], None]
"""Called with (done, total) pictures."""

MISSING = "missing"
"""State of a sample without a picture that can be judged; the others are those of verdicts."""

ROWS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "sets": pl.List(pl.String()),
    "prompt": pl.String(),
    "state": pl.String(),
    "reason": pl.String(),
    "value": pl.Float64(),
    "correct": pl.Boolean(),
    "score_names": pl.List(pl.String()),
    "scores": pl.List(pl.Float64()),
    "reply": pl.String(),
    "judge": pl.String(),
    "asked": pl.String(),
    "image": pl.String(),
    "image_sha256": pl.String(),
    "source_image": pl.String(),
    "source_sha256": pl.String(),
    "chain": pl.String(),
    "calls": pl.Int32(),
    "cost": pl.Float64(),
}
"""`state`: scored, refused, unreadable, unanswered or missing, with its `reason`; `value` and `scores` only
of those that are scored; `correct`: of benchmarks whose values are right or wrong; `reply`: the judge's
words; `asked`: when, of the last question; `source_image`: its name among the data's pictures."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What became of a sample."""

    state: str
    reason: str | None = None
    value: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By the name of the question; those after one without a score are not put."""

    hashes: Mapping[str, str] = field(default_factory=dict)
    chain: str | None = None


def judge_samples(
    definition: Definition,
    samples: JudgedSamples,
    edited: StoredPictures,
    prompts: Mapping[str, Prompt],
    judge: Judge,
    *,
    progress: Progress | None = None,
    partial: bool = False,
) -> pl.DataFrame:
    """One row (ROWS) for each sample, in the order of the list; what is kept already is not asked again.

    Raises JudgeError, and JudgePaused unless `partial`: what is left is then unanswered.
    """
    work = _Judging(definition, samples, edited, prompts, judge)
    there = set(edited.names())
    todo = [one for one in samples.all if one.key in there]
    rows = {one.key: _Row(state=MISSING, reason="its picture is not there") for one in samples.all}
    if progress:
        progress(0, len(todo))
    try:
        for done, (sample, row) in enumerate(_side_by_side(todo, work, judge), start=1):
            rows[sample.key] = row
            if progress:
                progress(done, len(todo))
    except JudgePaused as error:
        if not partial:
            raise
        left = _Row(state=UNANSWERED, reason=f"not asked: {error}")
        rows |= {one.key: left for one in todo if rows[one.key].state == MISSING and not rows[one.key].hashes}
    name = judge.config.model
    return pl.DataFrame(
        [_record(one, rows[one.key], edited, definition, name) for one in samples.all], schema=ROWS
    )


def _side_by_side(
    todo: Sequence[JudgedSample], work: _Judging, judge: Judge
) -> Iterator[tuple[JudgedSample, _Row]]:
    """A thread for each sample under way: its pictures are read once, and its questions follow each other."""
    threads = ThreadPoolExecutor(judge.config.concurrency, thread_name_prefix="judging")
    try:
        under_way = {threads.submit(work.row, sample): sample for sample in todo}
        for done in as_completed(under_way):
            yield under_way[done], done.result()
    except GeneratorExit:
        raise
    except BaseException:
        judge.stop()
        raise
    finally:
        threads.shutdown(cancel_futures=True)


class _Judging:
    """Puts the questions about one sample; used from several threads."""

    def __init__(
        self,
        definition: Definition,
        samples: JudgedSamples,
        edited: StoredPictures,
        prompts: Mapping[str, Prompt],
        judge: Judge,
    ) -> None:
        self._definition, self._samples, self._edited = definition, samples, edited
        self._prompts, self._judge = prompts, judge
        self._readers: dict[str, Reader] = {one.name: reader_of(one) for one in definition.asks}
        self._reading = threading.Lock()  # files of pictures are read forward

    def row(self, sample: JudgedSample) -> _Row:
        """What becomes of a sample with a picture."""
        asks = [one for one in self._definition.asks if asked_about(one, sample)]
        files = self._files(sample, {name for ask in asks for name in ask.shows} | {SOURCE})
        seen = _Seen(files, self._definition)
        fault = drawing_fault(files[EDITED], self._edited.drawn_by)
        if reason := f"it {fault}" if fault else seen.fault:
            return _Row(state=MISSING, reason=reason, hashes=seen.hashes)
        chain = (drawing_record(files[EDITED]) or {}).get("chain")
        known: dict[str, Any] = {"hashes": seen.hashes, "chain": chain if isinstance(chain, str) else None}
        verdicts: dict[str, Verdict] = {}
        scores: dict[str, float] = {}
        for ask in asks:
            verdict = self._verdict(ask, sample, seen)
            if isinstance(verdict, str):
                return _Row(state=MISSING, reason=verdict, verdicts=verdicts, **known)
            verdicts[ask.name] = verdict
            if verdict.state != SCORED:
                return _Row(state=verdict.state, reason=verdict.reason, verdicts=verdicts, **known)
            scores.update(zip(ask.scores, verdict.value.values, strict=True))
        highest = {name: ask.high for ask in asks for name in ask.scores}
        value = sample_value(self._definition.scoring, scores, highest)
        return _Row(state=SCORED, value=value, scores=scores, verdicts=verdicts, **known)

    def _verdict(self, ask: Ask, sample: JudgedSample, seen: _Seen) -> Verdict | str:
        """The judge's, or why there is no picture to show it."""
        call, read = self._call(ask, sample, seen), self._readers[ask.name]
        kept = self._judge.kept(call, read)
        return kept or seen.undecodable() or self._judge.ask(call, read)

    def _files(self, sample: JudgedSample, wanted: set[str]) -> dict[str, bytes]:
        """The pictures that questions show, by what they are."""
        names = {one: sample.pictures[one] for one in wanted if one in sample.pictures}
        with self._reading:
            data = self._samples.pictures.read(list(names.values()))
        return {EDITED: self._edited.read([sample.key])[sample.key]} | {
            one: data[name] for one, name in names.items()
        }

    def _call(self, ask: Ask, sample: JudgedSample, seen: _Seen) -> Call:
        template, text = self._prompts[ask.name].text_for(sample.fields)
        pictures = [seen.shown(name) for name in ask.shows]
        parts: tuple[str | Shown, ...] = (*pictures, text) if ask.pictures_first else (text, *pictures)
        step = f"{self._definition.base} {ask.name}"
        return Call(step=step, template=template, parts=parts, max_tokens=ask.max_tokens)


class _Seen:
    """The pictures of a sample as the judge sees them; each is decoded once, and only if it has to be."""

    def __init__(self, files: Mapping[str, bytes], definition: Definition) -> None:
        self._files, self._definition = files, definition
        self._decoded: dict[str, Image.Image] = {}
        self.hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self._sizes: dict[str, tuple[int, int]] = {}
        self.fault = next((why for name in files if (why := self._headed(name))), None)
        """Why one of them is no picture, as far as its first bytes tell."""

    def _headed(self, name: str) -> str | None:
        try:
            with Image.open(io.BytesIO(self._files[name]), formats=FORMATS) as image:
                self._sizes[name] = image.size
        except UnidentifiedImageError:  # its own words name an address in memory: no two would be alike
            return f"the {name} picture cannot be read: it is none of {', '.join(FORMATS)}"
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"the {name} picture cannot be read: {error or type(error).__name__}"
        return None

    def undecodable(self) -> str | None:
        """Why one of them cannot be shown."""
        for name, data in self._files.items():
            try:
                self._decoded.setdefault(name, decode(data))
            except ValueError as error:
                return f"the {name} picture cannot be read: {error}"
        return None

    def shown(self, name: str) -> Shown:
        """One of them, named by what it is made of."""
        digest, size, longest = self.hashes[name], self._wanted(name), self._definition.longest
        if size is not None or longest is not None:
            digest = hashlib.sha256(f"{digest} bicubic {size} at most {longest}".encode()).hexdigest()
        return Shown(sha256=digest, image=lambda: _resized(self._decoded[name], size, longest))

    def _wanted(self, name: str) -> tuple[int, int] | None:
        """The size that it is brought to, where it has another."""
        if self._definition.resize != SOURCE or name != EDITED:
            return None
        wanted = self._sizes[SOURCE]
        return None if wanted == self._sizes[EDITED] else wanted


def _resized(image: Image.Image, size: tuple[int, int] | None, longest: int | None) -> Image.Image:
    if size is not None:
        image = image.resize(size, Image.Resampling.BICUBIC)
    if longest is not None and max(image.size) > longest:
        image = image.copy()
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    return image


def _record(
    sample: JudgedSample, row: _Row, edited: StoredPictures, definition: Definition, judge: str
) -> dict[str, Any]:
    verdicts = list(row.verdicts.values())
    right = definition.scoring.sample == "accuracy" and row.value is not None
    return {
        "sample_id": sample.key,
        "task": sample.task,
        "cluster": sample.cluster or row.hashes.get(SOURCE) or sample.source,
        "sets": list(sample.sets),
        "prompt": sample.instruction,
        "state": row.state,
        "reason": row.reason,
        "value": row.value,
        "correct": bool(row.scores) and bool(row.value) if right else None,
        "score_names": list(row.scores),
        "scores": list(row.scores.values()),
        "reply": _words(row.verdicts),
        "judge": next((one.model for one in reversed(verdicts) if one.model), judge) if verdicts else None,
        "asked": max((one.asked for one in verdicts if one.asked), default=None),
        "image": edited.file(sample.key),
        "image_sha256": row.hashes.get(EDITED),
        "source_image": sample.source,
        "source_sha256": row.hashes.get(SOURCE),
        "chain": row.chain,
        "calls": sum(one.calls for one in verdicts),
        "cost": sum(one.cost for one in verdicts),
    }


def _words(verdicts: Mapping[str, Verdict]) -> str:
    """What the judge said; of several questions with their names."""
    if len(verdicts) < 2:
        return "".join(one.reply for one in verdicts.values())
    return "\n\n".join(f"{name}: {one.reply}" for name, one in verdicts.items())
