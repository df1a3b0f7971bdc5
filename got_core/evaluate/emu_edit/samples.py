"""Samples of an edit benchmark as data, and faults of what was downloaded or handed in.

Belongs here: one sample, the list with its hash, which captions are known to be bad, collecting faults into
one error. Not here: the formats that they are read from (`emu`, `magicbrush`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from got_core.evaluate.scores import IncompleteRunError

PLACEHOLDERS = ("a train station in city",)
"""Captions of the Emu-Edit test set that describe no picture of theirs."""

NO_CAPTION, PLACEHOLDER, IDENTICAL = "no caption", "placeholder caption", "identical captions"
_SHOWN = 5


class BenchmarkDataError(IncompleteRunError):
    """Rows or pictures of a benchmark are missing, repeated, superfluous or cannot be read."""


class Pictures(Protocol):
    """Encoded pictures by name, read a few at a time."""

    def names(self) -> Collection[str]:
        """Of the pictures that there are."""
        ...

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """These pictures as files. Raises BenchmarkDataError where one cannot be read."""
        ...


@dataclass(frozen=True, kw_only=True)
class EditSample:
    """One edit, and what its picture is compared with."""

    key: str
    """Of the edited picture; its file's name without the ending."""

    task: str
    instruction: str
    source: str
    """Name of the picture to edit, among the pictures of the data."""

    reference: str
    """Name of the picture to compare with: the source itself, or a target."""

    input_caption: str = ""
    output_caption: str
    cluster: str | None = None
    """Samples with equal ones are not independent; None: those with the same source are not."""

    settings: tuple[str, ...] = ("all",)
    """The lists that it belongs to, each with scores of its own."""

    bad: str | None = None
    """Why it is left out of the filtered score."""

    mask: str | None = None
    """Name of the picture, among those of the data, that says where to edit, where the data has one."""


@dataclass(frozen=True, kw_only=True)
class EditSamples:
    """The samples of a benchmark with the pictures of its data."""

    samples: tuple[EditSample, ...]
    pictures: Pictures
    """Sources and targets."""

    data: str
    """Name of the published data."""

    split: str
    notes: tuple[str, ...] = ()
    """What was found about the data, one line each."""

    def sha256(self) -> str:
        """Of all that the list says, 64 hex digits; the order of the samples does not count."""
        rows = [
            [one.key, one.task, one.instruction, one.input_caption, one.output_caption, list(one.settings)]
            for one in sorted(self.samples, key=lambda one: one.key)
        ]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """A picture that a model has to make."""

    key: str
    instruction: str
    source: str
    """Name of the picture to edit."""

    of_edited: bool = False
    """Whether `source` is the key of an earlier edit instead of a picture of the data."""


def text_of(value: object) -> str:
    """A text as JSON and parquet files hold it; empty for anything else, for blanks, and for what is no
    Unicode (half a pair of surrogates), which no tokenizer takes."""
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= one <= "\udfff" for one in value):
        return ""
    return value


def canonical(caption: str) -> str:
    """A caption as CLIP's tokenizer reads it: without case and repeated spaces."""
    return " ".join(caption.lower().split())


def why_bad(input_caption: str, output_caption: str) -> str | None:
    """Why a sample's captions make its score meaningless; None where they do not."""
    both = [canonical(caption).rstrip(" .") for caption in (input_caption, output_caption)]
    if not all(both):
        return NO_CAPTION
    if set(both) & set(PLACEHOLDERS):
        return PLACEHOLDER
    return IDENTICAL if both[0] == both[1] else None


@dataclass
class Faults:
    """Faults of one folder or file, collected so that all are named at once."""

    where: str
    found: dict[str, list[str]] = field(default_factory=dict)
    """Names, by what is wrong with them."""

    def add(self, kind: str, *names: str) -> None:
        """Write down what is wrong with these."""
        if names:
            self.found.setdefault(kind, []).extend(names)

    def lines(self) -> tuple[str, ...]:
        """One line for each kind, with the first names."""
        return tuple(f"{kind}: {len(names)} ({_first(names)})" for kind, names in self.found.items())

    def settle(self, *, partial: bool) -> tuple[str, ...]:
        """The lines. Raises BenchmarkDataError if there are any, unless `partial`."""
        if self.found and not partial:
            raise BenchmarkDataError(
                f"{self.where}: {'; '.join(self.lines())}. Put that right, or ask for a partial score, which "
                "leaves them out and says so"
            )
        return tuple(f"{self.where}: {line}" for line in self.lines())


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
