"""GenEval 2's list of prompts and questions, read from the user's own checkout.

    git clone https://github.com/facebookresearch/GenEval2

Belongs here: reading and checking `geneval2_data.jsonl`, one JSON object a line. Not here: how its questions
are put to a judge (`questions`), or pictures (`layout`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from got_core.evaluate.geneval.prompts import PromptList

PUBLISHED_SHA256 = "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43"
"""Of the 800 prompts in facebookresearch/GenEval2 (commit a6e82d2, 423,220 bytes)."""

SOURCE = "geneval2_data.jsonl of github.com/facebookresearch/GenEval2 (CC BY-NC 4.0)"

SKILLS = ("object", "attribute", "count", "position", "verb")
"""Kinds of questions, in the order in which they are reported."""

COUNTING = "How many"
"""What a question begins with whose answer is a number."""

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
"""Answers to counting questions; all other answers are `Yes`."""

NAMED = 5
"""Bad rows that an error names; it counts the others."""

_FIELDS = {"prompt", "atom_count", "vqa_list", "skills"}


class QuestionListError(ValueError):
    """A list of prompts and questions that cannot be read; names the file, the line and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing that a judge is asked about a picture."""

    text: str
    answer: str
    """`Yes`, or a number in words."""

    skill: str
    """One of SKILLS."""

    @property
    def counting(self) -> bool:
        """Whether the answer is a number."""
        return self.text.startswith(COUNTING)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A prompt with its one picture and the questions about it."""

    prompt_index: int
    prompt: str
    atoms: int
    """Atomicity of the prompt, as the list states it; there may be more questions."""

    questions: tuple[Question, ...]

    @property
    def id(self) -> str:
        """Such as `00012`."""
        return f"{self.prompt_index:05d}"

    @property
    def task(self) -> str:
        """Such as `3 atoms`."""
        return f"{self.atoms} atoms"

    @property
    def name(self) -> str:
        """Of its picture in a folder that this project draws."""
        return f"pictures/{self.prompt_index:05d}.png"


@dataclass(frozen=True, kw_only=True)
class Samples(PromptList):
    """A list of prompts."""

    published_sha256: ClassVar[str] = PUBLISHED_SHA256

    all: tuple[Sample, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Atomicities that it has prompts of, in order."""
        return tuple(f"{atoms} atoms" for atoms in sorted({sample.atoms for sample in self.all}))

    @cached_property
    def by_prompt(self) -> Mapping[str, Sample]:
        """Samples by their prompts."""
        return {sample.prompt: sample for sample in self.all}

    @property
    def questions(self) -> int:
        """Of all prompts together."""
        return sum(len(sample.questions) for sample in self.all)

    def __len__(self) -> int:
        return len(self.all)

    def record(self) -> dict[str, Any]:
        """Size and hash, for a protocol."""
        return {
            "prompts": len(self.all),
            "images_per_prompt": 1,
            "questions": self.questions,
            "sha256": self.sha256,
        }


def read_samples(path: Path) -> Samples:
    """The samples of a list of prompts, or of the folder that `geneval2_data.jsonl` lies in.

    Raises FileNotFoundError, which says where the list is to be had, or QuestionListError, which names the
    lines that are wrong.
    """
    path = path / "geneval2_data.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; GenEval 2's prompts are {SOURCE}: clone it")
    data = path.read_bytes()
    samples: list[Sample] = []
    faults: list[str] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                samples.append(_sample(len(samples), line))
            except (ValueError, RecursionError) as error:
                faults.append(f"{path}:{number}: {' '.join(str(error).split())}")
    faults += list(_repeated(path, samples)) if not faults else []
    if faults:
        more = f"\nand {len(faults) - NAMED} more lines" if len(faults) > NAMED else ""
        raise QuestionListError("\n".join(faults[:NAMED]) + more + f"\nneeded are lines as in {SOURCE}")
    if not samples:
        raise QuestionListError(f"{path} has no prompts; needed are lines as in {SOURCE}")
    return Samples(all=tuple(samples), sha256=hashlib.sha256(data).hexdigest(), source=str(path))


def _repeated(path: Path, samples: list[Sample]) -> Iterator[str]:
    first: dict[str, int] = {}
    for sample in samples:
        if first.setdefault(sample.prompt, sample.prompt_index) != sample.prompt_index:
            yield (
                f"{path}: prompt {sample.prompt_index} is {sample.prompt!r} again, as prompt "
                f"{first[sample.prompt]}; pictures are found by their prompts"
            )


def _sample(number: int, line: bytes) -> Sample:
    row = json.loads(line.decode())
    if fault := next(_faults(row), None):
        raise ValueError(fault)
    questions = tuple(
        Question(text=text, answer=answer, skill=skill)
        for (text, answer), skill in zip(row["vqa_list"], row["skills"], strict=True)
    )
    return Sample(prompt_index=number, prompt=row["prompt"], atoms=row["atom_count"], questions=questions)


def _faults(row: Any) -> Iterator[str]:
    if not isinstance(row, dict) or set(row) != _FIELDS:
        found = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else type(row).__name__
        yield f"has {found}, not an object with {', '.join(sorted(_FIELDS))}"
        return
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        yield f"prompt is {row['prompt']!r}, not a text"
    atoms = row["atom_count"]
    if not isinstance(atoms, int) or isinstance(atoms, bool) or atoms < 1:
        yield f"atom_count is {atoms!r}, not a whole number above 0"
    questions, skills = row["vqa_list"], row["skills"]
    if not isinstance(questions, list) or not questions or not isinstance(skills, list):
        yield "vqa_list and skills are not both lists, with at least one question"
    elif len(questions) != len(skills):
        yield f"vqa_list has {len(questions)} questions, skills has {len(skills)}"
    else:
        for index, (question, skill) in enumerate(zip(questions, skills, strict=True)):
            if fault := _question_fault(question, skill):
                yield f"vqa_list[{index}]: {fault}"


def _question_fault(question: Any, skill: Any) -> str | None:
    if not (isinstance(question, list) and len(question) == 2 and all(isinstance(x, str) for x in question)):
        return f"is {question!r}, not [question, answer]"
    text, answer = question
    known = NUMBERS if text.startswith(COUNTING) else ("Yes",)
    if not text.strip():
        return "is an empty question"
    if answer not in known:
        return f"the answer to {text!r} is {answer!r}, not one of {', '.join(known)}"
    return None if skill in SKILLS else f"its skill is {skill!r}, not one of {', '.join(SKILLS)}"
