"""Phrases of plans as COCO's classes: renamed ones, odd plurals, colours."""

from __future__ import annotations

import pytest

from got_core.evaluate.apart.words import PhraseReader
from got_core.evaluate.geneval.classes import CLASSES

READER = PhraseReader()


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_by_its_own_name_and_plurals_as_the_prompts_have_them(name: str) -> None:
    assert READER.read(f"a {name}") == (name, None)
    assert READER.read(f"a red {name}") == (name, "red")
    assert READER.read(f"an orange {name}") == (name, "orange")
    assert READER.read(f"two {name}s") == (name, None)


@pytest.mark.parametrize(
    ("phrase", "read"),
    [
        ("three wine glasses", ("wine glass", None)),
        ("four knives", ("knife", None)),
        ("two benches", ("bench", None)),
        ("three buses", ("bus", None)),
        ("two puppies", ("dog", None)),
        ("three people", ("person", None)),
        ("A Mouse", ("computer mouse", None)),
        ("two white remotes", ("tv remote", "white")),
        ("the black TV remote control", ("tv remote", "black")),
        ("a keyboard", ("computer keyboard", None)),
        ("a hot-dog", ("hot dog", None)),
        ("a brown teddy bear", ("teddy bear", "brown")),
        ("a bear", ("bear", None)),
        ("a baseball bat", ("baseball bat", None)),
        ("a baseball", ("sports ball", None)),
        ("an orange", ("orange", None)),
        ("a bright orange cup", ("cup", "orange")),
        ("a cup in orange", ("cup", "orange")),
        ("a cup in dark green", ("cup", "green")),
        ("a cat with a red hat on a table", ("cat", None)),
        ("a pair of blue skis", ("skis", "blue")),
        ("a slice of pizza", ("pizza", None)),
        ("a red and white umbrella", ("umbrella", "white")),
        ("standing person", ("person", None)),
        ("a catalogue", (None, None)),
        ("", (None, None)),
        ("a unicorn", (None, None)),
    ],
)
def test_phrases(phrase: str, read: tuple[str | None, str | None]) -> None:
    assert READER.read(phrase) == read


def test_a_list_with_classes_of_its_own_and_words_for_them() -> None:
    reader = PhraseReader({"circle", "square"}, more={"circle": ["disc"]})
    assert reader.read("a red disc") == ("circle", "red")
    assert reader.read("squares") == ("square", None)
    assert reader.record() != READER.record()
    with pytest.raises(ValueError, match="words are given for triangle, but there are no such classes"):
        PhraseReader(more={"triangle": ["delta"]})
