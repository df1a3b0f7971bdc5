"""The texts that a judge is asked with: our own beside the definition, published ones in the user's checkout.

Belongs here: finding a text, its hash, filling it in. Not here: asking (`judging`).

A checkout's Python files are parsed and never run. Nothing of a published text is kept but its hash.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from got_core.evaluate.judged.shape import Ask, Definition, Wording, columns_in, filled
from got_core.evaluate.judged_names import DEFINITION, DefinitionError
from got_core.evaluate.protocol import text_sha256


class WordingError(ValueError):
    """A file of prompts that is not there, or has not the text that is looked for."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What one question is asked with: a text, or one of several."""

    name: str
    texts: Mapping[str, str]
    """By key; one text has the key ''."""

    key: str
    """Template of the key of a sample's text."""

    fill: Mapping[str, str]
    """By what stands in the text: a template of fields."""

    sha256: str
    """Of the text, or of the file of several."""

    published: bool | None
    """Whether it is the text of the published figures; None: not known, or our own."""

    def text_for(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """The text of a sample, unfilled and filled in. Raises WordingError where there is none for it."""
        key = filled(self.key, fields)
        if key not in self.texts:
            raise WordingError(
                f"the prompt {self.name} has no text for {key!r}, only for {', '.join(self.texts)}"
            )
        return self.filled(key, fields)

    def filled(self, key: str, fields: Mapping[str, str]) -> tuple[str, str]:
        """The text of a key, unfilled and filled in."""
        template = self.texts[key]
        values = {mark: filled(one, _Empty(fields)) for mark, one in self.fill.items()}
        if not values:
            return template, template
        marks = re.compile("|".join(re.escape(mark) for mark in sorted(values, key=len, reverse=True)))
        return template, marks.sub(
            lambda found: values[found[0]], template
        )  # in one go: texts hold marks, too


class _Empty(dict[str, str]):
    """Fields that a sample has not are empty."""

    def __missing__(self, name: str) -> str:
        return ""


def own_prompt(definition: Definition, ask: Ask) -> Prompt:
    """The prompt in the definition's folder. Raises DefinitionError that names the file."""
    wording = ask.wording
    path = definition.folder / wording.file
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(
            f"{definition.folder / DEFINITION}: `ask.{ask.name}.prompt`: {path} cannot be read: {error}"
        ) from error
    fill = wording.fill
    if fill is None:
        known = {*definition.source.fields, "task"}
        if unknown := [name for name in columns_in([text]) if name not in known]:
            raise DefinitionError(
                f"{path} fills in {{{unknown[0]}}}, which is no field; there are {', '.join(sorted(known))}"
            )
        fill = {f"{{{name}}}": f"{{{name}}}" for name in columns_in([text])}
    texts = {"": text}
    _check_marks(str(path), texts, fill)
    return Prompt(name=ask.name, texts=texts, key="", fill=fill, sha256=text_sha256(text), published=None)


def published_prompt(definition: Definition, ask: Ask, place: Path) -> Prompt:
    """The prompt in the user's checkout below `place`. Raises WordingError that names file and text."""
    wording = ask.wording
    path = place / wording.file
    try:
        data = path.read_bytes()
        whole = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WordingError(
            f"{path} cannot be read ({error}); {definition.name} asks with the published wording, which is "
            "read from your own checkout: `got score fetch-list` says from where it is to be had"
        ) from error
    texts = _texts(path, whole, wording)
    _check_marks(str(path), texts, wording.fill or {})
    digest = hashlib.sha256(data).hexdigest() if wording.key else text_sha256(texts[""])
    return Prompt(
        name=ask.name,
        texts=texts,
        key=wording.key,
        fill=wording.fill or {},
        sha256=digest,
        published=None if wording.sha256 is None else digest == wording.sha256,
    )


def prompts_of(definition: Definition, place: Path) -> dict[str, Prompt]:
    """The prompt of each question, by its name. Raises WordingError or DefinitionError."""
    return {
        ask.name: published_prompt(definition, ask, place)
        if ask.wording.published
        else own_prompt(definition, ask)
        for ask in definition.asks
    }


def _texts(path: Path, whole: str, wording: Wording) -> dict[str, str]:
    if wording.variables:
        return {"": wording.join.join(_variables(path, whole, wording.variables))}
    if not wording.key:
        return {"": whole}
    try:
        found = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise WordingError(f"{path} is not JSON: {error}; clone the repository again") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise WordingError(f"{path} must hold an object of texts; take the published file")
    return found


def _variables(path: Path, whole: str, names: tuple[str, ...]) -> list[str]:
    try:
        tree = ast.parse(whole, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise WordingError(f"{path} is no Python file ({error}); clone the repository again") from error
    found = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    if missing := [name for name in names if name not in found]:
        raise WordingError(
            f"{path} has no text {missing[0]}; take the published file, or one of the same time"
        )
    return [found[name] for name in names]


def _check_marks(path: str, texts: Mapping[str, str], fill: Mapping[str, str]) -> None:
    for key, text in texts.items():
        if not text.strip():
            raise WordingError(f"{path} has no text{f' for {key!r}' if key else ''}")
        for mark in fill:
            if mark not in text:
                raise WordingError(
                    f"{path}: the text{f' for {key!r}' if key else ''} has no {mark!r} to fill in; take the "
                    "published file, or one of the same time"
                )
