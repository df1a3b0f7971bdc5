"""Found probabilities and their bounds, against whole distributions and an independent sum."""

from __future__ import annotations

import json
import math
import random

import pytest

from got_core.annotate.reasoning import ReplyError
from got_core.evaluate.geneval2.probabilities import (
    NoLogprobs,
    kept_reply,
    probability_of,
    read_reply,
)


def logprobs(entries: list[tuple[str, float]], own: tuple[str, float] | None = None) -> dict:
    token, logprob = own or entries[0]
    top = [{"token": one, "logprob": value, "bytes": None} for one, value in entries]
    return {"content": [{"token": token, "logprob": logprob, "top_logprobs": top}], "refusal": None}


def reply_of(entries: list[tuple[str, float]], own: tuple[str, float] | None = None):
    return read_reply(kept_reply(logprobs(entries, own), "m", "2026-01-01"))


def distribution(rng: random.Random, size: int) -> dict[str, float]:
    weights = [rng.random() ** rng.choice([1, 8, 40]) for _ in range(size)]
    return {f"t{number}": weight / sum(weights) for number, weight in enumerate(weights)}


def test_the_truth_lies_between_what_is_found_and_its_bound() -> None:
    rng, tight = random.Random(0), 0
    for _ in range(3000):
        whole = distribution(rng, rng.randint(3, 60))
        ranked = sorted(whole.items(), key=lambda one: -one[1])[: rng.randint(2, 20)]
        tokens = {rng.choice(list(whole)): rng.randint(1, 3) for _ in range(rng.randint(1, 6))}
        tokens[f"not in it {rng.random()}"] = 1
        answer = probability_of(reply_of([(t, math.log(p)) for t, p in ranked]), tokens)
        truth = sum(times * whole.get(token, 0.0) for token, times in tokens.items())
        shown = dict(ranked)
        assert answer.found == pytest.approx(
            sum(times * shown.get(token, 0.0) for token, times in tokens.items()), abs=1e-9
        )
        assert answer.found - 1e-9 <= truth <= answer.found + answer.bound + 1e-9
        outside = [times for token, times in tokens.items() if token not in shown]
        rest = 1 - sum(shown.values())
        assert answer.bound <= min(sum(outside) * ranked[-1][1], max(outside) * rest) + 1e-9
        if all(times == 1 for times in tokens.values()):
            tight += 1
            expected = min(len(outside) * ranked[-1][1], max(rest, 0.0))
            assert answer.bound == pytest.approx(expected, abs=1e-9)
            assert answer.found + answer.bound <= 1 + 1e-9
    assert tight > 50


def test_a_token_given_twice_counts_once() -> None:
    """vLLM puts the sampled token before the most likely ones, where it may be again."""
    entries = [("Yes", math.log(0.7)), ("Yes", math.log(0.7)), ("No", math.log(0.2))]
    answer = probability_of(reply_of(entries), {"Yes": 1})
    assert answer.found == pytest.approx(0.7) and answer.bound == 0


def test_two_tokens_of_one_text_are_summed() -> None:
    entries = [("\ufffd", math.log(0.4)), ("\ufffd", math.log(0.3)), ("No", math.log(0.2))]
    assert probability_of(reply_of(entries), {"\ufffd": 1}).found == pytest.approx(0.7)


def test_a_sampled_token_below_the_others_bounds_nothing() -> None:
    entries = [("No", math.log(0.5)), ("no", math.log(0.2))]
    answer = probability_of(reply_of(entries, ("odd", math.log(0.001))), {"Yes": 1})
    assert answer.bound == pytest.approx(0.2), "what is not shown may be as likely as the last one shown"


def test_spellings_of_a_space_and_of_nothing() -> None:
    entries = [("ĠYes", math.log(0.5)), ("▁yes", math.log(0.3)), ("No", -9999.0)]
    answer = probability_of(reply_of(entries), {" Yes": 1, " yes": 1, "Yes": 1})
    assert answer.found == pytest.approx(0.8) and answer.bound == 0, "the last one shown has no probability"


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"content": None},
        {"content": []},
        {"content": [{"token": "a", "logprob": -1.0}]},
        {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]},
        logprobs([("token_id:311", -0.1), ("token_id:9", -3.0)]),
        {"tokens": ["Yes"], "token_logprobs": [-0.1], "top_logprobs": [{"Yes": -0.1}]},
    ],
)
def test_no_logprobs_are_no_reply(given: object) -> None:
    with pytest.raises(NoLogprobs):
        kept_reply(given, "m", "2026-01-01")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([("a", 0.5), ("b", -1.0)], "is 0.5"),
        ([("a", math.nan), ("b", -1.0)], "is nan"),
        ([("a", None), ("b", -1.0)], "is None"),
        ([("a", "-1"), ("b", -1.0)], "is '-1'"),
        ([("a", True), ("b", -1.0)], "is True"),
        ([(None, -0.1), ("b", -1.0)], "is no text"),
        ([("a", math.log(0.9)), ("b", math.log(0.9))], r"sum up to 1\.800"),
    ],
)
def test_figures_that_are_none_are_refused(entries: list, match: str) -> None:
    with pytest.raises(ReplyError, match=match):
        reply_of(entries)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"token": 1, "top": [], "model": null, "asked": ""}', "x" * 9]
)
def test_damaged_answers_are_refused(text: str) -> None:
    with pytest.raises(ReplyError):
        read_reply(text)


def test_probabilities_that_are_rounded_up_are_taken_back() -> None:
    reply = reply_of([("a", math.log(0.604)), ("b", math.log(0.401))])
    assert math.fsum(p for _, p in reply.probabilities) == pytest.approx(1.0, abs=1e-12)
    assert probability_of(reply, {"a": 1, "b": 1, "c": 1}).bound == pytest.approx(0, abs=1e-12)
    assert json.loads(kept_reply(logprobs([("a", 0.0)]), None, "t"))["model"] is None
