"""Which of a detector's classes a plan's phrase names, and in which colour.

Belongs here: the words for COCO's classes, their plurals, and reading a phrase. Not here: what a prompt asks
for (that is in the benchmark's own rows), or phrases of rendered scenes (`planning.objects`).

English is not understood here, words are looked up: a phrase that names no known word is reported as unread.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from got_core.evaluate.geneval.classes import CLASSES
from got_core.evaluate.protocol import digest_of
from got_core.planning.geneval import COLORS

VERSION = 1
"""Raise when the same phrase is read otherwise (the words themselves are in the record)."""

OTHER_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": ("people", "man", "men", "woman", "women", "boy", "girl", "child", "children"),
        "bicycle": ("bike",),
        "motorcycle": ("motorbike",),
        "airplane": ("plane", "aeroplane"),
        "traffic light": ("traffic signal", "stoplight"),
        "fire hydrant": ("hydrant",),
        "dog": ("puppy",),
        "cat": ("kitten",),
        "handbag": ("hand bag", "purse"),
        "suitcase": ("luggage",),
        "skis": ("ski",),
        "sports ball": ("ball", "soccer ball", "football", "basketball", "baseball", "tennis ball"),
        "baseball glove": ("baseball mitt",),
        "tennis racket": ("tennis racquet", "racket", "racquet"),
        "wine glass": ("wineglass", "glass of wine", "glasses of wine"),
        "cup": ("mug",),
        "knife": ("knives",),
        "donut": ("doughnut",),
        "couch": ("sofa",),
        "potted plant": ("plant", "houseplant"),
        "dining table": ("table",),
        "tv": ("television", "television set", "tv set", "tv monitor"),
        "laptop": ("laptop computer",),
        "computer mouse": ("mouse", "mice", "computer mice"),
        "tv remote": ("remote", "remote control", "tv remote control", "television remote"),
        "computer keyboard": ("keyboard",),
        "cell phone": ("cellphone", "mobile phone", "phone", "smartphone"),
        "refrigerator": ("fridge",),
        "scissors": ("scissor",),
        "teddy bear": ("teddy", "stuffed bear"),
        "hair drier": ("hair dryer", "hairdryer", "hairdrier", "blow dryer"),
        "toothbrush": ("tooth brush",),
    }
)
"""Everyday words for COCO's classes, besides their names; plurals are made from all of them."""

_WORD = re.compile(r"[a-z]+")
_AFTER = re.compile(
    r"\b(?:with|without|on|in|at|by|near|under|over|above|below|behind|beside|between|inside|next|against"
    r"|wearing|holding|that|which|while|facing|standing|sitting|lying|placed|and)\b"
)
"""Words after which a phrase speaks of something else."""


class PhraseReader:
    """Reads noun phrases as (class, colour). `classes`: besides COCO's; `more`: further words by class."""

    def __init__(
        self,
        classes: Collection[str] = (),
        colors: Sequence[str] = COLORS,
        more: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        names = dict.fromkeys([*CLASSES, *sorted(classes)])
        if unknown := sorted(set(more) - set(names)):
            raise ValueError(f"words are given for {', '.join(unknown)}, but there are no such classes")
        self._classes = {
            form: name
            for name in reversed(names)  # of two classes with one word, the first has it
            for word in (name, *OTHER_WORDS.get(name, ()), *more.get(name, ()))
            for form in _forms(word.lower())
        }
        self._classes |= {_plain(name): name for name in names}  # a class's own name is never another's word
        longest_first = sorted(self._classes, key=lambda form: (-len(form), form))
        self._name = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")
        self._colors = tuple(colors)
        self._in_color = re.compile(rf"\bin (?:\w+ )?({'|'.join(map(re.escape, colors))})\b")

    def record(self) -> dict[str, Any]:
        """What the reading depends on, for a protocol."""
        return {"version": VERSION, "words": digest_of(self._classes), "colors": list(self._colors)}

    def read(self, phrase: str) -> tuple[str | None, str | None]:
        """(class, colour) of a phrase; None for what it does not name.

        The class is the last one named before the phrase speaks of something else (`a cat with a hat`), or
        the first one after that; the colour is the last one before the class, or the one that follows `in`.
        """
        words = _plain(phrase)
        parted = _AFTER.search(words)
        end = parted.start() if parted else len(words)
        before = [one for one in self._name.finditer(words) if one.end() <= end]
        found = before[-1] if before else self._name.search(words, end)
        if found is None:
            return None, None
        return self._classes[found.group()], self._color(words, found.start(), found.end())

    def _color(self, words: str, start: int, end: int) -> str | None:
        named = [word for word in words[:start].split() if word in self._colors]
        after = self._in_color.match(words[end:].lstrip())
        return named[-1] if named else after.group(1) if after else None


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def _forms(word: str) -> Iterator[str]:
    """A word and its plurals, with those that GenEval's prompts have: `benchs`, `knifes`, `sheeps`."""
    plain = _plain(word)
    yield from (plain, f"{plain}s", f"{plain}es")
    if plain.endswith("y"):
        yield f"{plain[:-1]}ies"
