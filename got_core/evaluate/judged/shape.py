"""A judged benchmark as plain data: samples, questions, scores.

Belongs here: the shape of a definition, and its templates. Not here: reading one (`definition`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FORMATS = ("parquet", "arrow", "json", "jsonl", "folders")
HOLDING = ("parquet", "arrow")
"""Those with pictures in their columns; rows of the others name files."""
REPLIES = ("scores", "final", "lines", "choice")
SAMPLE_SCORES = ("min", "mean", "root_of_product", "accuracy", "weighted")
OVERALLS = ("samples", "tasks")
NEEDED_FIELDS = ("id", "instruction")
SOURCE, EDITED = "source", "edited"
_NAMES = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, kw_only=True)
class FileNeeded:
    """Something that users download themselves (`published.downloads.Download` has the meaning)."""

    what: str
    where: str
    licence: str
    path: str
    sha256: str | None = None
    judging: bool = False


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Where the text of a prompt is."""

    file: str
    """In the definition's folder; of a published one below GOT_BENCHMARKS."""

    published: bool = False
    variables: tuple[str, ...] = ()
    """Of a Python file, which is parsed and not run: names of texts, joined by `join`."""

    key: str = ""
    """Of a JSON file: which of its texts, as a template of the sample's fields."""

    join: str = "\n"
    sha256: str | None = None
    """Of the published text, or with `key` of the file. Another one makes it another protocol."""

    fill: Mapping[str, str] | None = None
    """By what stands in the text: a template of the sample's fields. None: every `{field}` in it."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question to the judge about a sample."""

    name: str
    wording: Wording
    shows: tuple[str, ...]
    """Pictures, in order."""

    pictures_first: bool = False
    scores: tuple[str, ...]
    """Names of the scores that it gives, in the reply's order."""

    low: float
    high: float
    reply: str = "scores"
    choices: tuple[str, ...] = ()
    """Of a `choice`, from the worst to the best: the first counts `low`, the last `high`."""

    max_tokens: int = 1024
    only: Mapping[str, tuple[str, ...] | bool] = field(default_factory=dict)
    """Samples that it is asked about: fields with the values that they may have, or whether it is there."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where samples come from, and how a row becomes one."""

    format: str
    path: str
    """Below GOT_BENCHMARKS."""

    pictures: str
    """Folder of files of pictures, below GOT_BENCHMARKS."""

    split: str = "test"
    folders: tuple[str, ...] = ()
    count: int | None = None
    """Samples of the published list."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Templates of a row's columns by name; `id` and `instruction` are needed, `task` and `cluster` known."""

    shown: Mapping[str, str] = field(default_factory=dict)
    """The same of pictures: columns that hold them, or names of files; `source` is needed."""

    only: Mapping[str, str | bool] = field(default_factory=dict)
    """Columns with the value that a row must have to belong to the list."""

    sets: Mapping[str, Mapping[str, str | bool]] = field(default_factory=dict)
    """Parts of the list, with figures of their own, in the same way."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How scores become a sample's value, and values the overall score."""

    sample: str
    parts: tuple[tuple[str, ...], ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Scores that every sample must be asked for."""

    factor: float = 1.0
    overall: str = "samples"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A benchmark as its folder says it."""

    name: str
    base: str
    """Name of the folder's benchmark, of which this may be a variant."""

    folder: Path
    title: str
    version: int
    judge: str
    """Name of the judge that published figures were made with; empty: none."""

    place: str
    """File of an edited picture without its ending, a template of the sample's fields."""

    besides: tuple[str, ...]
    """Patterns of other files, without ending, that a folder of pictures may hold."""

    pictures_folder: str
    """Of its pictures in the storage; benchmarks with equal ones draw the same list."""

    resize: str
    longest: int | None
    """How pictures are brought to the size that the judge sees: the edited one to its source's, and both to
    this longest side."""

    files: tuple[FileNeeded, ...]
    source: Source
    asks: tuple[Ask, ...]
    scoring: Scoring

    @property
    def score_names(self) -> tuple[str, ...]:
        """Of all scores, each once, in the order of the questions."""
        return tuple(dict.fromkeys(name for ask in self.asks for name in ask.scores))


def columns_in(templates: Iterable[str]) -> tuple[str, ...]:
    """The names in braces, each once."""
    return tuple(dict.fromkeys(name for one in templates for name in _NAMES.findall(one)))


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with its names replaced, in one go. KeyError where one is missing."""
    return _NAMES.sub(lambda found: values[found[1]], template)
