"""The samples of a benchmark: its rows by the mapping of its definition, with what is wrong with them.

Belongs here: one sample, the list with its hash. Not here: formats (`rows`, `pairs`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from got_core.evaluate.emu_edit.samples import EditRequest, EditSample, EditSamples, Faults
from got_core.evaluate.judged.rows import FilePictures, Row, Rows, read_rows, stays_below, text_value
from got_core.evaluate.judged.shape import SOURCE, Ask, Definition, Source, columns_in, filled
from got_core.evaluate.judged_names import DEFINITION, DefinitionError

MASK = "mask"
"""Name of the picture that says where to edit, where a definition has one."""

_NEEDED = ("id", "task", "cluster", "instruction")
"""Fields that a row must have where the definition maps them."""


@dataclass(frozen=True, kw_only=True)
class JudgedSample:
    """One edit that a model has to make, and what the judge is shown and told besides."""

    key: str
    """Of the sample; unlike in a list."""

    task: str
    instruction: str
    cluster: str | None
    """Samples with equal ones are not independent; None: those with the same source are not."""

    pictures: Mapping[str, str]
    """Names of the data's pictures by what they are, `source` among them."""

    fields: Mapping[str, str]
    """Texts by name, `id`, `task` and `instruction` among them; empty ones are not there."""

    place: str
    """File of its edited picture, without ending."""

    sets: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Name of the picture to edit."""
        return self.pictures[SOURCE]


@dataclass(frozen=True, kw_only=True)
class JudgedSamples:
    """The list, with the pictures of its data."""

    all: tuple[JudgedSample, ...]
    pictures: Any
    """Of the data, by name (`emu_edit.samples.Pictures`)."""

    data: str
    """Where it lies below GOT_BENCHMARKS."""

    expected: int | None
    """Samples of the published list."""

    notes: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    """File of each sample's edited picture."""

    @property
    def published(self) -> bool:
        """Whether it has as many samples as the published list, as far as that is known."""
        return self.expected in (None, len(self.all))

    def sha256(self) -> str:
        """Of all that the list says, 64 hex digits; the order does not count. Pictures are named in it by
        their place; verdicts name them by their content."""
        rows = sorted([one.key, one.task, dict(one.fields), dict(one.pictures), one.sets] for one in self.all)
        text = json.dumps(rows, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """The list as a protocol has it."""
        return {"data": self.data, "count": len(self.all), "sha256": self.sha256()}

    def requests(self) -> list[EditRequest]:
        """The pictures that a model has to make."""
        return [EditRequest(key=one.key, instruction=one.instruction, source=one.source) for one in self.all]

    def as_edits(self) -> EditSamples:
        """The same for what draws edits and reads their folders."""
        edits = (
            EditSample(
                key=one.key,
                task=one.task,
                instruction=one.instruction,
                source=one.source,
                reference=one.source,
                output_caption="",
                cluster=one.cluster,
                mask=one.pictures.get(MASK),
            )
            for one in self.all
        )
        return EditSamples(samples=tuple(edits), pictures=self.pictures, data=self.data, split="all")


def read_samples(definition: Definition, place: Path, *, partial: bool = False) -> JudgedSamples:
    """The samples of a download below `place` (GOT_BENCHMARKS).

    Raises BenchmarkDataError that names rows without id or instruction, those that repeat one and pictures
    that are not there, unless `partial`, which leaves them out and says so.
    """
    source = definition.source
    faults = Faults(str(place / source.path))
    rows = read_rows(source, place, faults)
    made = _Making(definition, place, rows, faults)
    samples = {one.key: one for row in rows.rows for one in made.samples(row)}
    if not samples:
        faults.add("no samples", "it has no row that can be judged")
    notes = faults.settle(partial=partial and bool(samples))
    return JudgedSamples(
        all=tuple(samples.values()),
        pictures=rows.pictures or FilePictures(place, made.files),
        data=source.path,
        expected=source.count,
        notes=(*notes, *_about_size(source, len(samples))),
        places={one.key: one.place for one in samples.values()},
    )


def _about_size(source: Source, found: int) -> Iterator[str]:
    if source.count not in (None, found):
        yield f"{found} samples; the published list has {source.count}"


def meets(conditions: Mapping[str, str | bool], values: Mapping[str, Any]) -> bool:
    """Whether a row has these values: a text that is equal, or something that is true or not."""
    return all(
        _truth(values.get(name)) is wanted
        if isinstance(wanted, bool)
        else text_value(values.get(name)) == wanted
        for name, wanted in conditions.items()
    )


def _truth(value: Any) -> bool:
    return value.strip().lower() not in ("", "false", "0") if isinstance(value, str) else bool(value)


def asked_about(ask: Ask, sample: JudgedSample) -> bool:
    """Whether a question is put about a sample."""
    for name, wanted in ask.only.items():
        value = sample.pictures.get(name) or sample.fields.get(name, "")
        truth = value.lower() not in ("", "false", "0")
        if truth is not wanted if isinstance(wanted, bool) else value not in wanted:
            return False
    return True


class _Making:
    """Samples of rows, one at a time."""

    def __init__(self, definition: Definition, place: Path, rows: Rows, faults: Faults) -> None:
        self._definition, self._source = definition, definition.source
        self._root, self._faults, self._held = place, faults, rows.pictures is not None
        self._needed = {*_NEEDED, *columns_in([definition.place])}
        self._seen: set[str] = set()
        self._places: set[str] = set()
        self.files: set[str] = set()

    def samples(self, row: Row) -> Iterator[JudgedSample]:
        """The row's sample, if it belongs to the list and nothing is wrong with it."""
        if not meets(self._source.only, row.values):
            return
        fields = self._fields(row)
        if fields is None:
            return
        pictures = self._pictures(row)
        if pictures is None:
            return
        key = quote(fields["id"], safe="/")
        hidden = any(part.startswith(".") or not part for part in key.split("/"))
        if key in self._seen or hidden:
            kind = (
                "rows that repeat an id" if key in self._seen else "rows with an id that names a hidden file"
            )
            self._faults.add(kind, f"{row.where}: {key}")
            return
        named = {name: quote(text, safe="") for name, text in fields.items()}
        sets = tuple(name for name, one in self._source.sets.items() if meets(one, row.values))
        sample = JudgedSample(
            key=key,
            task=fields["task"],
            instruction=fields["instruction"],
            cluster=fields.get("cluster"),
            pictures=pictures,
            fields={name: text for name, text in fields.items() if name != "cluster"},
            place=filled(self._definition.place, {"task": "all", **named}),
            sets=sets,
        )
        if self._has_place(sample, row) and self._can_be_asked(sample, row):
            self._seen.add(key)
            self._places.add(sample.place)
            yield sample

    def _has_place(self, sample: JudgedSample, row: Row) -> bool:
        """Whether its edited picture has a file of its own, in the folder and not hidden."""
        if any(not part or part.startswith(".") for part in sample.place.split("/")):
            self._faults.add(
                "rows whose edited picture would be a hidden file", f"{row.where}: {sample.place}"
            )
            return False
        if sample.place in self._places:
            kind = f"rows with an edited picture that would be another's (place {self._definition.place})"
            self._faults.add(kind, f"{row.where}: {sample.place}")
            return False
        return True

    def _can_be_asked(self, sample: JudgedSample, row: Row) -> bool:
        """Whether there are questions about it for all scores that it needs, and each once."""
        scores = [name for ask in self._definition.asks if asked_about(ask, sample) for name in ask.scores]
        if twice := [name for name in scores if scores.count(name) > 1]:
            raise DefinitionError(
                f"{self._definition.folder / DEFINITION}: two questions of {self._definition.name} give "
                f"{twice[0]!r} for {row.where}: their `only` must leave one"
            )
        scoring = self._definition.scoring
        needed = [*(name for part in scoring.parts for name in part), *scoring.needs]
        lacking = [name for name in needed if name not in scores]
        if not lacking and not (set(scoring.weights) & set(scores) if scoring.weights else scores):
            lacking = ["a score that counts" if scores else "a score"]
        if lacking:
            self._faults.add(f"rows about which nothing asks for {lacking[0]}", row.where)
        return not lacking

    def _fields(self, row: Row) -> dict[str, str] | None:
        made = {"task": "all"}
        for name, template in self._source.fields.items():
            values = {one: text_value(row.values.get(one)) for one in columns_in([template])}
            if text := filled(template, values).strip() if all(values.values()) else "":
                made[name] = text
            elif name in self._needed:
                self._faults.add(f"rows without {name} ({template})", row.where)
                return None
        return made

    def _pictures(self, row: Row) -> dict[str, str] | None:
        made = {}
        for name, template in self._source.shown.items():
            columns = columns_in([template])
            if self._held:
                made[name] = row.pictures[columns[0]]
                continue
            values = {one: text_value(row.values.get(one)) for one in columns}
            if all(values.values()):
                file = filled(template, values)
                if not (stays_below(file) and self._is_there(file)):
                    self._faults.add("missing pictures", f"{row.where}: {file}")
                    return None
                made[name] = self._name(file)
        if SOURCE not in made:
            self._faults.add("rows without a picture to edit", row.where)
            return None
        return made

    def _name(self, file: str) -> str:
        return f"{self._source.pictures}/{file}"

    def _is_there(self, file: str) -> bool:
        name = self._name(file)
        try:
            if name not in self.files and (self._root / name).is_file():
                self.files.add(name)
        except OSError:  # a name that is too long, or in a folder that is not to be looked into
            return False
        return name in self.files
