"""The prompts, each a file of its own below `prompts/`, with a JSON schema where the step returns data.

Belongs here: reading them and their hashes. Not here: what is filled in and how a reply is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """A prompt: its text with `$names` to fill in, and the schema of its reply (None: running text)."""

    name: str
    text: str
    schema_text: str | None

    @property
    def hash(self) -> str:
        """16 hex digits of SHA-256 over text and schema: the prompt's version."""
        return hashlib.sha256(f"{self.text}\0{self.schema_text or ''}".encode()).hexdigest()[:16]

    @property
    def schema(self) -> dict[str, Any] | None:
        """JSON schema of the reply."""
        return json.loads(self.schema_text) if self.schema_text else None

    @property
    def fields(self) -> list[str]:
        """Names that have to be filled in."""
        return Template(self.text).get_identifiers()

    def filled(self, **texts: str) -> str:
        """The prompt with its names replaced. Raises KeyError where one is missing."""
        return Template(self.text).substitute(texts)


@cache
def prompt(name: str) -> Prompt:
    """The prompt of that name. Raises ValueError, with the known ones, where there is none."""
    folder = files("got_core.annotate") / "prompts"
    text = folder / f"{name}.txt"
    if not text.is_file():
        raise ValueError(f"no prompt {name!r}; there are {', '.join(prompt_names())}")
    schema = folder / f"{name}.schema.json"
    return Prompt(
        name, text.read_text("utf-8").strip(), schema.read_text("utf-8") if schema.is_file() else None
    )


@cache
def prompt_names() -> tuple[str, ...]:
    """Names of all prompts, sorted."""
    folder = files("got_core.annotate") / "prompts"
    return tuple(sorted(f.name.removesuffix(".txt") for f in folder.iterdir() if f.name.endswith(".txt")))


_SAME_QUESTIONS = {"ground_together": "d0cb0f2112b14051"}
"""Prompts, by their hashes, that put the questions of others in another way: in this form they leave the
revision as it was before them, so that stored tables stay good; in any other form they change it."""


def prompts_hash() -> str:
    """12 hex digits over all prompts: part of the annotator's revision."""
    hashes = {name: prompt(name).hash for name in prompt_names()}
    parts = "".join(f"{k}{value}" for k, value in hashes.items() if _SAME_QUESTIONS.get(k) != value)
    return hashlib.sha256(parts.encode()).hexdigest()[:12]
