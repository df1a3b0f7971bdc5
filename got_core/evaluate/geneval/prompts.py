"""GenEval's list of prompts, read from the user's own download.

    curl -LO https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl

Belongs here: reading and checking `evaluation_metadata.jsonl`, one JSON object a line, and the pictures that
it asks for. Not here: judging (`planning.geneval`), or pictures (`layout`).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from got_core.planning.geneval import (
    COLORS,
    DEFAULT_RULES,
    TASKS,
    MetadataError,
    check_metadata,
)

PUBLISHED_SHA256 = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"
"""Of the 553 prompts in the repository djghosh13/geneval (commit af4902f, 85,209 bytes)."""

SOURCE = "prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval (MIT)"
NAMED = 5
"""Bad rows that an error names; it counts the others."""

_CLAUSES = {"include": {"class", "count", "color", "position"}, "exclude": {"class", "count"}}


class PromptListError(ValueError):
    """A list of prompts that cannot be read; names the file, the line and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture that the benchmark asks for."""

    prompt_index: int
    image_index: int
    row: Mapping[str, Any]
    """Its line of the list: `tag`, `prompt`, `include`, `exclude`?."""

    @property
    def id(self) -> str:
        """Such as `00012-00003`."""
        return f"{self.prompt_index:05d}-{self.image_index:05d}"

    @property
    def name(self) -> str:
        """Of its picture in a folder of the official layout."""
        return f"{self.prompt_index:05d}/samples/{self.image_index:05d}.png"


@dataclass(frozen=True, kw_only=True)
class PromptList:
    """A file with a list of prompts, which may be the published one."""

    sha256: str
    """Of the file, 64 hex digits."""

    source: str
    """The file, for messages."""

    published_sha256: ClassVar[str]

    @property
    def published(self) -> bool:
        """Whether it is the published list, byte for byte."""
        return self.sha256 == self.published_sha256

    @property
    def note(self) -> str | None:
        """One line where the list is another one."""
        if self.published:
            return None
        return (
            f"{self.source} is not the published list (SHA-256 {self.sha256[:12]} instead of "
            f"{self.published_sha256[:12]}): its scores stand under a protocol of another name"
        )


@dataclass(frozen=True, kw_only=True)
class Samples(PromptList):
    """A list of prompts with so many pictures each."""

    published_sha256: ClassVar[str] = PUBLISHED_SHA256

    rows: tuple[Mapping[str, Any], ...]
    images_per_prompt: int

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those of the six tasks that it has prompts of, in their usual order."""
        return tuple(task for task in TASKS if any(row["tag"] == task for row in self.rows))

    @property
    def expected(self) -> dict[str, int]:
        """Pictures of each task."""
        tags = [row["tag"] for row in self.rows]
        return {task: tags.count(task) * self.images_per_prompt for task in self.tasks}

    @property
    def classes(self) -> set[str]:
        """All classes that some clause speaks of."""
        return {clause["class"] for row in self.rows for kind in _CLAUSES for clause in row.get(kind, ())}

    @cached_property
    def all(self) -> tuple[Sample, ...]:
        """All pictures, prompt after prompt."""
        return tuple(
            Sample(prompt_index=number, image_index=image, row=row)
            for number, row in enumerate(self.rows)
            for image in range(self.images_per_prompt)
        )

    def __len__(self) -> int:
        return len(self.rows) * self.images_per_prompt

    def record(self) -> dict[str, Any]:
        """Size and hash, for a protocol."""
        return {
            "prompts": len(self.rows),
            "images_per_prompt": self.images_per_prompt,
            "sha256": self.sha256,
        }


def read_samples(path: Path, images_per_prompt: int = 4) -> Samples:
    """The samples of a list of prompts.

    Raises FileNotFoundError, which says where the list is to be had, or PromptListError, which names the
    lines that are wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; GenEval's prompts are {SOURCE}: download them there")
    data = path.read_bytes()
    rows: list[Mapping[str, Any]] = []
    faults: list[str] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append(_row(line))
            except (ValueError, RecursionError) as error:
                faults.append(f"{path}:{number}: {' '.join(str(error).split())}")
    if faults:
        more = f"\nand {len(faults) - NAMED} more lines" if len(faults) > NAMED else ""
        raise PromptListError("\n".join(faults[:NAMED]) + more + f"\nneeded are lines as in {SOURCE}")
    if not rows:
        raise PromptListError(f"{path} has no prompts; needed are lines as in {SOURCE}")
    digest = hashlib.sha256(data).hexdigest()
    return Samples(rows=tuple(rows), images_per_prompt=images_per_prompt, sha256=digest, source=str(path))


def _row(line: bytes) -> Mapping[str, Any]:
    row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode())
    if fault := next(_faults(row), None):
        raise MetadataError(fault)
    check_metadata(row)
    json.dumps(row, ensure_ascii=False).encode()  # half a pair of surrogates could not be written
    return row


def _faults(row: Any) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"is {type(row).__name__}, not an object with tag, prompt and include"
        return
    if row.get("tag") not in TASKS:
        yield f"tag is {row.get('tag')!r}, not one of {', '.join(TASKS)}"
    if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        yield f"prompt is {row.get('prompt')!r}, not a text"
    for kind, known in _CLAUSES.items():
        clauses = row.get(kind, [])
        if not isinstance(clauses, list):
            yield f"{kind} is {clauses!r}, not a list of clauses"
            return
        for number, clause in enumerate(clauses):
            for fault in _clause_faults(clause, known):
                yield f"{kind}[{number}]: {fault}"
    limit = DEFAULT_RULES.max_objects
    for number, clause in enumerate(row.get("include", [])):
        if clause["count"] > limit:
            yield f"include[{number}]: count is {clause['count']}, but at most {limit} of a class are kept"


def _clause_faults(clause: Any, known: set[str]) -> Iterator[str]:
    if not isinstance(clause, dict):
        yield f"is {clause!r}, not an object with class and count"
        return
    if unknown := sorted(set(clause) - known):
        yield f"{', '.join(unknown)} is judged by no rule (known: {', '.join(sorted(known))})"
    if not isinstance(clause.get("class"), str) or not clause["class"]:
        yield f"class is {clause.get('class')!r}, not a name"
    if not _is_count(clause.get("count")):
        yield f"count is {clause.get('count')!r}, not a whole number above 0"
    if "color" in clause and clause["color"] not in COLORS:
        yield f"color is {clause['color']!r}, not one of {', '.join(COLORS)}"
    if "position" in clause and not _is_position(clause["position"]):
        yield f"position is {clause['position']!r}, not [relation, number of an earlier clause]"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_position(value: Any) -> bool:
    pair: Sequence[Any] = value if isinstance(value, list) and len(value) == 2 else (None, None)
    return isinstance(pair[0], str) and isinstance(pair[1], int) and not isinstance(pair[1], bool)
