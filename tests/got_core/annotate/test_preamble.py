"""Introductions go, sentences that only look like one stay."""

from __future__ import annotations

import pytest

from got_core.annotate.preamble import bare_text

CAPTION = "A red ball lies on a table at 10:30, in 16:9."


@pytest.mark.parametrize(
    "text",
    [
        "Here is a clock on a wall that shows 10:30 beside a door.",
        "Here are two movie posters in 16:9 format.",
        "Here is a sign that says: Stop here.",
        "A poster reads: Keep calm.",
        "Here we see three things: a cat, a dog and a bird.",
        "A page at https://example.org/a:b is shown.",
        "Sure-footed goats climb a cliff: one is white.",
        "The image shows two posters: one red, one blue.",
        'A shop window with the words "Caption: this" on it.',
        "Ratio 4:3, time 12:00.",
        "A sentence in the picture: a proverb on a wall.",
        "Picture in picture: a man on a screen.",
        "Two images: a cat and a dog.",
        "Ein Schild, auf dem steht: Halt.",
        "A description of nature: trees, rivers and hills fill the frame.",
    ],
)
def test_sentences_stay_whole(text: str) -> None:
    assert bare_text(text) == text


@pytest.mark.parametrize(
    "introduction",
    [
        "Here is a caption: ",
        "Sure! Here's the caption: ",
        "Here is a detailed description of the image:\n\n",
        "Certainly. Below is the description:\n",
        "**Caption:** ",
        "Caption: ",
        "Description:\n",
        "Here's a short caption of the image:\n",
        "Of course! Here is a concise prompt for the picture: ",
        "### Caption\n",
        "Prompt: ",
        "Here is a prompt that could be used to generate this image:\n",
        "Here's a short prompt that a person might type to create such a picture: ",
        "Here is one dense paragraph describing the image:\n\n",
        "The image can be described as follows:\n",
        "Caption (one sentence): ",
        "Here is the description of the image you requested:\n\n",
    ],
)
def test_introductions_go(introduction: str) -> None:
    assert bare_text(introduction + CAPTION) == CAPTION


@pytest.mark.parametrize(
    "text",
    [
        f'"{CAPTION}"',
        f"“{CAPTION}”",
        f"{CAPTION}\n\nLet me know if you need anything else!",
        f"{CAPTION} I hope this helps!",
        f"**{CAPTION}**",
        f'Sure! Here is the caption: "{CAPTION}"',
    ],
)
def test_what_stands_around_goes(text: str) -> None:
    assert bare_text(text) == CAPTION


def test_quotation_marks_of_the_text_itself_stay() -> None:
    assert bare_text('"Open" and "closed" signs.') == '"Open" and "closed" signs.'
    assert (
        bare_text('"Stop" is written on a sign that says "go"')
        == '"Stop" is written on a sign that says "go"'
    )
