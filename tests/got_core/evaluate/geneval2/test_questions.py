"""Both ways to put questions, and the wording that is read from a checkout."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from got_core.evaluate.geneval2.probabilities import kept_reply, probability_of, read_reply
from got_core.evaluate.geneval2.prompts import Question
from got_core.evaluate.geneval2.questions import (
    NUMBERS,
    YES,
    CheckoutError,
    published_way,
    published_wording,
)
from got_core.evaluate.protocol import text_sha256
from tests.got_core.evaluate.geneval2.lists import SCRIPT, write_checkout, write_tokenizer

COUNT = Question(text="How many dogs are in the image?", answer="three", skill="count")
YES_NO = Question(text="Are the dogs red?", answer="Yes", skill="attribute")


def test_this_way_asks_for_digits_and_counts_a_spelling_once() -> None:
    put = NUMBERS.put(COUNT)
    assert put.text.startswith(COUNT.text) and "digits" in put.text
    assert put.tokens == dict.fromkeys(["three", "Three", " three", " Three", "3", " 3"], 1)
    assert NUMBERS.put(YES_NO).tokens == dict.fromkeys(YES, 1)
    assert set(NUMBERS.prompt_texts.values()) == {
        text_sha256(put.template),
        text_sha256(NUMBERS.put(YES_NO).template),
    }
    with pytest.raises(ValueError, match="numbers up to nine"):
        NUMBERS.put(Question(text="How many dogs?", answer="ten", skill="count"))


def test_the_published_way_sums_first_tokens_with_doubles(tmp_path: Path) -> None:
    way = published_way(write_checkout(tmp_path / "GenEval2"), write_tokenizer(tmp_path / "tokenizer.json"))
    put = way.put(YES_NO)
    assert put.text == "Are the dogs red? Say it in a word." and put.tokens == dict.fromkeys(YES, 1)
    assert way.put(Question(text="How many dogs?", answer="two", skill="count")).tokens == {
        "two": 1,
        "Two": 1,
        " two": 1,
        " Two": 1,
        "2": 1,
        " ": 1,  # the first token of " 2"
    }
    split = way.put(COUNT)  # `three` is no token: its first letters stand for it, and for other words
    assert sum(split.tokens.values()) == 6 and "three" not in split.tokens and split.tokens["3"] == 1
    ten = way.put(Question(text="How many dogs?", answer="ten", skill="count"))
    assert ten.tokens["1"] == 1 and sum(ten.tokens.values()) == 6, "the first token of ten is that of one"
    assert way.suffix == f"wording-{text_sha256('{} Say it in a word.')[:12]}", "the wording is another one"
    assert way.networks["tokenizer"].files["tokenizer.json"] != ""


def test_the_published_sum_may_pass_one(tmp_path: Path) -> None:
    """With a tokenizer whose first tokens are alike: each is counted again."""
    path = tmp_path / "letters.json"
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = {letter: number for number, letter in enumerate("oneO Yys1")}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(path))
    way = published_way(write_checkout(tmp_path / "GenEval2"), path)
    put = way.put(Question(text="How many dogs?", answer="one", skill="count"))
    assert put.tokens == {"o": 1, "O": 1, " ": 3, "1": 1}
    top = [{"token": " ", "logprob": math.log(0.5)}, {"token": "1", "logprob": math.log(0.3)}]
    kept = kept_reply({"content": [{**top[0], "top_logprobs": top}]}, None, "now")
    answer = probability_of(read_reply(kept), put.tokens)
    assert answer.found == pytest.approx(3 * 0.5 + 0.3)
    assert answer.bound == pytest.approx(0.2), "two spellings, and .2 is left"


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("def soft_tifa(:", "no Python file"),
        ("def other():\n    'a {}'.format(1)", "has 0 wordings"),
        ("def soft_tifa():\n    'a {}'.format(1)\n    'b {}'.format(1)", "has 2 wordings"),
        ("def soft_tifa():\n    name.format(1)\n    'no place'.format(1)", "has 0 wordings"),
        ("def soft_tifa():\n    'a {0}'.format(1)\n    '{} {}'.format(1, 2)", "has 0 wordings"),
    ],
)
def test_a_script_without_one_wording_is_refused(tmp_path: Path, script: str, match: str) -> None:
    with pytest.raises(CheckoutError, match=match):
        published_wording(write_checkout(tmp_path, script=script))


def test_what_the_published_way_needs(tmp_path: Path) -> None:
    assert published_wording(write_checkout(tmp_path / "a")) == "{} Say it in a word."
    (tmp_path / "a" / "evaluation.py").write_text(f"import os\nos._exit(7)\n{SCRIPT}")
    assert published_wording(tmp_path / "a") == "{} Say it in a word.", "it is not run"
    with pytest.raises(CheckoutError, match=r"evaluation.py is not a file.*CC BY-NC"):
        published_way(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="the judge's tokenizer"):
        published_way(tmp_path / "a", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckoutError, match="is no tokenizer"):
        published_way(tmp_path / "a", tmp_path)
