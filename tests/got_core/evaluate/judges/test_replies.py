"""Readers of replies: 2,000 generated ones, and forms that single benchmarks use."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import partial
from typing import Any

import pytest

from got_core.annotate.annotator import AnnotationError
from got_core.annotate.envelope import completion_of
from got_core.evaluate.judged.readers import read_lines
from got_core.evaluate.judges.call import REFUSED, SCORED, UNREADABLE
from got_core.evaluate.judges.declining import refusal_in
from got_core.evaluate.judges.kept import Kept
from got_core.evaluate.judges.questions import heard
from got_core.evaluate.judges.replies import (
    Scores,
    UnreadableReply,
    any_of,
    read_choice,
    read_labelled,
    read_listed,
    read_number,
    read_scores,
)
from tests.got_core.evaluate.judges.generated_replies import BAD, DECLINED, GOOD, replies

TWO = partial(read_scores, count=2, low=0, high=10)


def state_of(response: dict[str, Any]) -> tuple[str, tuple[float, ...] | None]:
    """What the judge's code makes of a server's response."""
    completion = completion_of(200, None, json.dumps(response).encode(), ())
    if completion.refused:
        return REFUSED, None
    kept = Kept(completion.text, truncated=completion.truncated)
    try:
        return SCORED, heard(TWO)(kept.text()).values
    except AnnotationError:
        return REFUSED, None
    except UnreadableReply:
        return UNREADABLE, None


def test_two_thousand_replies_are_what_they_were_made_as() -> None:
    made = replies(2000, seed=29)
    wrong = [
        (one.form, one.state, found, json.dumps(one.response)[:200])
        for one in made
        if (found := state_of(one.response)) != (one.state, one.values)
    ]
    assert wrong == []
    forms = Counter((one.state, one.form) for one in made)
    assert len(forms) == len(GOOD) + len(BAD) + len(DECLINED), "every form is there"
    states = Counter(one.state for one in made)
    assert states[SCORED] > 900 and states[UNREADABLE] > 700 and states[REFUSED] > 150


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7", (7.0,)),
        ("**Score: 7.5**", (7.5,)),
        ("Rating: 8/10.", (8.0,)),
        ('{"score": 7, "reasoning": "x"}', (7.0,)),
        ('{"score": ["7"]}', (7.0,)),
        ("<think>9?</think>\n\n7", (7.0,)),
        ("```\n7\n```", (7.0,)),
    ],
)
def test_one_score(text: str, values: tuple[float, ...]) -> None:
    assert read_scores(text, 1, 0, 10).values == values
    assert read_number(text, 0, 10) == values[0]


@pytest.mark.parametrize("text", ["7,5", "7 or 8", "7 of 10 people", "8/5", "about 7", "0x7", "７"])  # noqa: RUF001
def test_what_is_no_single_score(text: str) -> None:
    with pytest.raises(UnreadableReply):
        read_number(text, 0, 10)


def test_the_message_says_what_is_wrong() -> None:
    for text, said in {
        '{"score": [8, 11]}': "the score 11 is outside of 0 to 10",
        '{"score": [8]}': "the reply holds one score, 2 scores must be there",
        '{"score": [8, NaN]}': "NaN is no number",
        '{"score": [8, null]}': "a score must be a number, not null",
        '{"score": [8, 9]} {"score": [9, 8]}': "more than one verdict",
        "": "the reply is empty",
    }.items():
        with pytest.raises(UnreadableReply, match=said):
            TWO(text)


def test_what_the_judge_says_of_its_scores_is_kept() -> None:
    assert TWO('{"score": [8, 9], "reasoning": "the hat\\n is  gone"}').reasoning == "the hat is gone"
    assert TWO('The hat is gone.\n{"score": [8, 9]}\n').reasoning == "The hat is gone."
    assert TWO("[8, 9]").reasoning == ""
    assert len(TWO(json.dumps({"score": [8, 9], "reason": "word " * 2000})).reasoning) == 4000


def test_lines_with_labels() -> None:
    labels = ("Prompt Compliance", "Visual Naturalness", "Physical & Detail Coherence")
    text = "Brief reasoning: fine. 3 things.\n**Prompt Compliance:** 4\n- Visual  Naturalness: 5/5.\n3. Physical & Detail Coherence: 2\n"  # noqa: E501
    read = partial(read_labelled, labels=labels, low=1, high=5)
    assert read(text).values == (4, 5, 2) and read(text).reasoning.startswith("Brief reasoning: fine.")
    assert read(json.dumps(dict(zip(labels, (4, "5", 2), strict=True)))).values == (4, 5, 2)
    assert read(text + "Prompt Compliance: 4").values == (4, 5, 2), "the same again"
    for wrong in (
        text.replace("4", "6"),
        text.replace("Visual", "Other"),
        text + "Prompt Compliance: 3",
        text.replace("5/5", "excellent"),
        "4, 5, 2",
    ):
        with pytest.raises(UnreadableReply):
            read(wrong)


def test_a_line_with_several_scores() -> None:
    read = partial(read_listed, label="Final Score", count=2, low=1, high=5)
    assert read("I see no 3.\n\n**Final Score:** 4, 5").values == (4, 5)
    assert read("Final Score: [4,5].").values == (4, 5)
    for wrong in ("Final Score: 4", "Final Score: 4, 6", "4, 5", "Final Score: 4, 5\nFinal Score: 5, 5"):
        with pytest.raises(UnreadableReply):
            read(wrong)


def test_choices() -> None:
    read = partial(read_choice, choices=("Yes", "No", "Not sure"))
    for text in (
        "yes",
        "**Yes**.",
        "Answer: Yes",
        "The answer is yes.",
        '{"answer": "YES"}',
        "<think>No</think>Yes",
    ):
        assert read(text) == "Yes", text
    assert read("not  sure") == "Not sure"
    for wrong in (
        "Yes and no",
        "maybe",
        '{"answer": true}',
        '{"answer": "Yes"} {"answer": "No"}',
        "Yes, it is",
    ):
        with pytest.raises(UnreadableReply):
            read(wrong)


def test_the_first_reader_that_takes_a_reply_counts() -> None:
    read = any_of(TWO, partial(read_listed, label="Final Score", count=2, low=0, high=10))
    assert read("Final Score: 4, 5").values == (4, 5)
    with pytest.raises(UnreadableReply, match="no score in the form that was asked for"):
        read("nothing")


def test_ends_of_the_range_are_inside() -> None:
    assert TWO("[0, 10]") == Scores((0.0, 10.0))
    assert TWO("[-0.0, 10.0]").values == (0.0, 10.0)
    for low, high in ((1, 5), (-1, 1), (0.5, 0.75)):
        assert read_number(repr(low), low, high) == low and read_number(repr(high), low, high) == high
        for outside in (math.nextafter(low, -9), math.nextafter(high, 9)):
            with pytest.raises(UnreadableReply):
                read_number(json.dumps({"score": outside}), low, high)


@pytest.mark.parametrize("piece", ["[", "{", '{"a":', "\n", "*", "- ", "1, ", "Score:", "sorry ", "<think>"])
def test_long_replies_of_one_piece_are_unreadable_and_soon(piece: str) -> None:
    """Several seconds each, if a pattern looked for its end at every place."""
    text = piece * (19_000 // len(piece)) + "x"
    labelled = partial(read_labelled, labels=("Score", "b"), low=1, high=5)
    listed = partial(read_listed, label="Final Score", count=2, low=1, high=5)
    for read in (TWO, labelled, listed, partial(read_choice, choices=("a", "b"))):
        with pytest.raises(UnreadableReply):
            read(text)
    assert refusal_in(text) is None


@pytest.mark.parametrize("blank", [" ", "\n", "\t\n"])
def test_blanks_without_end_behind_a_fence_are_read_in_no_time(blank: str) -> None:
    """With a pattern of three repeats over blanks, the time grows with the third power: hours for these."""
    with pytest.raises(UnreadableReply):
        read_scores("```" + blank * 9000 + "x", 1, 0, 10)
    assert read_scores("```json" + blank * 100 + '{"score": 7}' + blank * 9000 + "```", 1, 0, 10).values == (
        7,
    )


def test_a_word_in_a_fence_is_no_language_where_it_may_be_the_answer() -> None:
    assert read_choice("```good```", ["good", "bad"]) == "good"
    with pytest.raises(UnreadableReply):
        read_choice("```Not good```", ["good", "bad"])
    with pytest.raises(UnreadableReply):
        read_scores("```7 8```", 1, 0, 10)


def test_lines_of_another_scale_are_unreadable() -> None:
    assert read_lines("A: 4/5\nB: 3 out of 5\n**C:** 2", 3, 1, 5).values == (4, 3, 2)
    for wrong in ("A: 4/10\nB: 3\nC: 2", "A: 4 out of 10\nB: 3\nC: 2"):
        with pytest.raises(UnreadableReply, match="out of 10"):
            read_lines(wrong, 3, 1, 5)
