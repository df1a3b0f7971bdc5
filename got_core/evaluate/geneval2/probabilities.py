"""The probability of an answer, from the log-probabilities of a reply's first token.

A server gives the k most likely tokens. What lies outside of them counts as 0, with a bound: no single token
there is more likely than the least likely one of the k, and all of them together are no more than what the k
leave of 1.

Belongs here: what is kept of a reply, reading it, found probability and bound. Not here: which tokens stand
for an answer (`questions`), or asking (`server`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from got_core.annotate.reasoning import ReplyError

EXCESS = 1e-2
"""By how much the probabilities of a reply may exceed 1: servers round them."""

_TOKEN_ID = re.compile(r"token_id:\d+")


class NoLogprobs(ValueError):
    """A reply without log-probabilities, or with tokens that have no text: the server cannot judge."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The first token of a reply, and the tokens that were most likely there."""

    token: str
    probabilities: tuple[tuple[str, float], ...]
    """Each token's text and probability, the most likely first; what a server gives twice is here once."""

    least: float
    """No other token is more likely than this."""

    model: str | None
    """What the server calls the model that replied."""

    asked: str
    """When, ISO 8601 in UTC."""

    @property
    def rest(self) -> float:
        """What the tokens leave of 1."""
        return max(0.0, 1.0 - math.fsum(p for _, p in self.probabilities))


@dataclass(frozen=True)
class Probability:
    """The probability of an answer: what was found, and what may be missing from it at most."""

    found: float
    bound: float


def kept_reply(logprobs: Any, model: str | None, asked: str) -> str:
    """What is kept of a reply, as JSON. Raises NoLogprobs where there is nothing to judge by."""
    first = _first(logprobs)
    top = [[one.get("token"), one.get("logprob")] for one in first["top_logprobs"] if isinstance(one, dict)]
    if any(isinstance(token, str) and _TOKEN_ID.fullmatch(token) for token, _ in top):
        raise NoLogprobs("the server gives tokens as numbers (vLLM: --return-tokens-as-token-ids)")
    own = [first.get("token"), first.get("logprob")]
    return json.dumps({"token": own, "top": top, "model": model, "asked": asked})


def _first(logprobs: Any) -> dict[str, Any]:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict) or not isinstance(first.get("top_logprobs"), list):
        raise NoLogprobs("the reply has no log-probabilities")
    if not first["top_logprobs"]:
        raise NoLogprobs("the reply has a log-probability of its own token alone")
    return first


def read_reply(text: str) -> Reply:
    """A kept reply. Raises ReplyError where its figures are none, or contradict each other."""
    try:
        kept = json.loads(text)
        own, top = _entry(kept["token"]), [_entry(one) for one in kept["top"]]
        model, asked = kept["model"], kept["asked"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ReplyError(f"the reply's log-probabilities cannot be read ({error})") from error
    distinct = sorted(dict.fromkeys([own, *top]), key=lambda one: -one[1])
    total = math.fsum(p for _, p in distinct)
    if total > 1 + EXCESS:
        raise ReplyError(f"the probabilities of the reply's {len(distinct)} tokens sum up to {total:.3f}")
    share = 1 / max(1.0, total)  # rounded up
    distinct, own = [(token, share * p) for token, p in distinct], (own[0], share * own[1])
    # A sampled token that is not the most likely one may stand below the k most likely.
    others = [p for token, p in distinct if (token, p) != own or (token, p) == distinct[0]]
    return Reply(token=own[0], probabilities=tuple(distinct), least=min(others), model=model, asked=asked)


def _entry(pair: Any) -> tuple[str, float]:
    token, logprob = pair
    if not isinstance(token, str):
        raise TypeError(f"the token {token!r} is no text")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= 1e-3:
        raise ValueError(f"the log-probability of {token!r} is {logprob!r}")
    return _plain(token), min(1.0, math.exp(logprob))


def _plain(token: str) -> str:
    """A token's text where a server gives the vocabulary's spelling of a space before it."""
    return f" {token[1:]}" if token[:1] in ("Ġ", "▁") else token


def probability_of(reply: Reply, tokens: Mapping[str, int]) -> Probability:
    """The probability of the tokens together, each as often as it counts."""
    seen: dict[str, float] = {}
    for token, p in reply.probabilities:
        seen[token] = seen.get(token, 0.0) + p
    found = math.fsum(times * seen[token] for token, times in tokens.items() if token in seen)
    missing = sorted((times for token, times in tokens.items() if token not in seen), reverse=True)
    return Probability(found, math.fsum(_most(missing, reply.least, reply.rest)))


def _most(missing: list[int], least: float, rest: float) -> Iterator[float]:
    """What missing tokens add at most, those that count most often first."""
    for times in missing:
        p = min(least, rest)
        rest -= p
        yield times * p
