"""Replies of judges of every form, each with what has to become of it, known from how it was made.

A reply is a whole response of a server. The form of the answer asked for is two scores from 0 to 10.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.got_core.annotate.chat_server import completion

SCORED, REFUSED, UNREADABLE = "scored", "refused", "unreadable"


@dataclass(frozen=True)
class Made:
    """A response, and what it is."""

    form: str
    response: dict[str, Any]
    state: str
    values: tuple[float, ...] | None = None


OF_TEN = ("/10", " / 10", " out of 10")
SPELLINGS = ("Score", "SCORES", " score ")

Form = Callable[[random.Random, list[float]], Any]
"""The content of a reply with these scores, or a whole response."""

WORDS = (
    "the hat is gone",
    "it says {nothing} of [1] or 2 < 3",
    'he said "yes"\nand left',
    "naïve, 好的 🙂",
    "",
)
THOUGHTS = (
    "<think>the first is {a}, or rather {b}\n</think>\n",
    "a plain {a} and {b}, I think </think>",
    "<thinking>[{a}, {b}]</thinking>",
    '[THINK]{{"score": [{a}, {b}]}}[/THINK]',
    "<|channel|>analysis<|message|>{a} {b}<|end|><|start|>assistant<|channel|>final<|message|>",
)


def _object(dice: random.Random, scores: Any, **more: Any) -> str:
    members = {"score": scores, "reasoning": dice.choice(WORDS), **more}
    names = list(members)
    dice.shuffle(names)
    text = json.dumps({name: members[name] for name in names}, ensure_ascii=dice.random() < 0.5)
    return text if dice.random() < 0.7 else text.replace(", ", ",\n  ")


def _fenced(text: str, dice: random.Random) -> str:
    return f"```{dice.choice(['json', '', 'JSON'])}\n{text}\n```"


def _thoughts(dice: random.Random) -> str:
    return dice.choice(THOUGHTS).format(a=dice.randint(0, 10), b=dice.randint(0, 10))


def _parts(text: str, dice: random.Random) -> list[dict[str, str]]:
    at = dice.randint(0, len(text))
    return [{"type": "text", "text": text[:at]}, {"type": "text", "text": text[at:]}]


def _texts(scores: Sequence[float]) -> list[str]:
    return [f"{one:g}" for one in scores]


GOOD: dict[str, Form] = {
    "object": _object,
    "fenced object": lambda dice, s: _fenced(_object(dice, s), dice),
    "prose around": lambda dice, s: f"Here is my verdict:\n{_object(dice, s)}\n\nI hope it helps: {s[0]:g}.",
    "fence and prose": lambda dice, s: f"Sure. {_fenced(_object(dice, s), dice)} The score is as above.",
    "marks of a prompt": lambda dice, s: f"||V^=^V||\n{_object(dice, s)}\n||V^=^V||",
    "thinking before": lambda dice, s: _thoughts(dice) + _object(dice, s),
    "thinking, then a list": lambda dice, s: _thoughts(dice) + json.dumps(s),
    "thinking in a field": lambda dice, s: completion(_object(dice, s))
    | {"thought": None, "choices": [_choice(_object(dice, s), reasoning_content="maybe [1, 2]")]},
    "bare list": lambda dice, s: json.dumps(s),
    "fenced list": lambda dice, s: _fenced(json.dumps(s), dice),
    "labelled list": lambda dice, s: f"**Score:** {json.dumps(s)}.",
    "figures": lambda dice, s: ", ".join(_texts(s)),
    "labelled figures": lambda dice, s: f"Final scores = {','.join(_texts(s))}\n",
    "texts": lambda dice, s: _object(dice, _texts(s)),
    "one text": lambda dice, s: _object(dice, json.dumps(s)),
    "figures in a text": lambda dice, s: _object(dice, ", ".join(_texts(s))),
    "of ten": lambda dice, s: _object(dice, [f"{one:g}{dice.choice(OF_TEN)}" for one in s]),
    "JSON in JSON": lambda dice, s: json.dumps(_object(dice, s)),
    "content parts": lambda dice, s: {"choices": [_choice(_parts(_object(dice, s), dice))]},
    "nested": lambda dice, s: json.dumps({"result": {"score": s, "reasoning": "deep"}}),
    "list of one": lambda dice, s: json.dumps([{"score": s, "reasoning": "in a list"}]),
    "list in a list": lambda dice, s: _object(dice, [s]),
    "other spelling": lambda dice, s: json.dumps({"Reasoning": "x", dice.choice(SPELLINGS): s}),
    "the same twice": lambda dice, s: f"{_object(dice, s)}\n{_object(dice, s)}",
    "one name twice, alike": lambda dice, s: f'{{"score": {json.dumps(s)}, "score": {json.dumps(s)}}}',
    "newline in a text": lambda dice, s: f'{{"reasoning": "two\nlines\tof it", "score": {json.dumps(s)}}}',
    "end mark": lambda dice, s: f"<answer>{_object(dice, s)}</answer><|im_end|>",
    "an apology, and scores": lambda dice, s: f"I'm sorry, I cannot rate one. Still: {_object(dice, s)}",
}  # fmt: skip


def _choice(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish,
    }


def _cut(dice: random.Random, scores: Any) -> str:
    whole = json.dumps({"reasoning": "something was changed", "score": scores})
    return whole[: dice.randint(2, len(whole) - 1)]


def _spoilt(dice: random.Random, scores: list[float], value: str) -> str:
    shown = [f"{one:g}" for one in scores]
    shown[dice.randrange(2)] = value
    return f'{{"score": [{", ".join(shown)}], "reasoning": "x"}}'


def _unlike(scores: list[float]) -> list[float]:
    return [scores[0], 10 - scores[1] if scores[1] != 5 else 4]


BAD: dict[str, Form] = {
    "empty": lambda dice, s: dice.choice(["", " ", "\n\n", "```json\n```"]),
    "no content": lambda dice, s: completion(None),
    "cut off": _cut,
    "cut off behind prose": lambda dice, s: f"My verdict: {_cut(dice, s)}",
    "closing brace missing": lambda dice, s: _object(dice, s)[:-1],
    "one brace too many, inside": lambda dice, s: '{"score": {' + json.dumps(s) + "}}",
    "too high": lambda dice, s: _spoilt(dice, s, dice.choice(["11", "10.01", "1e3", "85"])),
    "too low": lambda dice, s: _spoilt(dice, s, dice.choice(["-1", "-0.5"])),
    "not a number": lambda dice, s: _spoilt(dice, s, dice.choice(["NaN", "Infinity", "-Infinity"])),
    "null and truth": lambda dice, s: _spoilt(dice, s, dice.choice(["null", "true", "{}", '"high"'])),
    "of five": lambda dice, s: _object(dice, [f"{one / 2:g}/5" for one in s]),
    "one score": lambda dice, s: _object(dice, dice.choice([s[:1], s[0]])),
    "three scores": lambda dice, s: _object(dice, [*s, s[0]]),
    "no score": lambda dice, s: _object(dice, []),
    "another member": lambda dice, s: json.dumps({"rating": s}),
    "bare figure": lambda dice, s: f"{s[0]:g}",
    "three figures": lambda dice, s: ", ".join(_texts([*s, 1])),
    "list out of range": lambda dice, s: json.dumps([s[0], 11]),
    "prose": lambda dice, s: f"I would give it {s[0]:g} for success and {s[1]:g} for the rest.",
    "list in prose": lambda dice, s: f"It deserves {json.dumps(s)} in my eyes, or a little more.",
    "two verdicts": lambda dice, s: f"{_object(dice, s)} or {_object(dice, _unlike(s))}",
    "one name twice": lambda dice, s: f'{{"score": {json.dumps(s)}, "score": {json.dumps(_unlike(s))}}}',
    "single quotes": lambda dice, s: f"{{'score': {json.dumps(s)}}}",
    "trailing comma": lambda dice, s: f'{{"score": {json.dumps(s)},}}',
    "in words": lambda dice, s: _object(dice, ["eight", "nine"]),
    "only thoughts": lambda dice, s: f"<think>{json.dumps(s)}",
    "thoughts and no answer": lambda dice, s: f"<think>{json.dumps(s)}</think>\n",
    "thoughts in a field alone": lambda dice, s: {
        "choices": [_choice(None, reasoning_content=f"it is {json.dumps(s)}")]
    },
    "ended at its limit": lambda dice, s: completion(_object(dice, s), finish="length"),
    "too deep": lambda dice, s: "[" * 3000,
    "objects too deep": lambda dice, s: '{"a": ' * 6 + json.dumps({"score": s}) + "}" * 6,
    "too long": lambda dice, s: f"{'word ' * 5000}{_object(dice, s)}",
    "too long behind it": lambda dice, s: f"{_object(dice, s)}{' word' * 5000}",
    "an apology, and a broken object": lambda dice, s: f"I'm sorry, I can't rate: {_object(dice, s)[:-1]}",
    "speaks of the picture": lambda dice, s: "I cannot see the hat in the second picture, so it is a 2.",
}  # fmt: skip

DECLINING = (
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, I cannot help with evaluating this image.",  # noqa: RUF001
    "Sorry, but I can't provide a rating for these images.",
    "I cannot evaluate this content.",
    "I am unable to assess images of real people.",
    "As an AI language model, I cannot score this.",
    "Unfortunately, I won't be able to rate the edit.",
    "I'm not comfortable rating this picture.",
    "I must respectfully decline.",
    "I apologize, but this request goes against my guidelines.",
    "**I'm sorry, but I can't help with identifying people.**",
    "<think>this shows a person: [8, 9]?</think>I'm sorry, but I can't assist with that.",
    "抱歉，我无法评价这张图片。",  # noqa: RUF001
)

DECLINED: dict[str, Form] = {
    "in words": lambda dice, s: dice.choice(DECLINING),
    "in words, as parts": lambda dice, s: {"choices": [_choice(_parts(DECLINING[0], dice))]},
    "filter": lambda dice, s: completion(dice.choice([None, "", _object(dice, s)]), finish="content_filter"),
    "safety": lambda dice, s: completion(None, finish=dice.choice(["SAFETY", "prohibited-content"])),
    "refusal": lambda dice, s: {"choices": [_choice(None, refusal="I cannot look at this.")]},
    "refusal as a part": lambda dice, s: {"choices": [_choice([{"type": "refusal", "refusal": "no"}])]},
}  # fmt: skip


def replies(count: int, seed: int) -> list[Made]:
    """So many replies, each form as often as the others of its state; half of them can be read."""
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        state, forms = dice.choices([(SCORED, GOOD), (UNREADABLE, BAD), (REFUSED, DECLINED)], [5, 4, 1])[0]
        form = dice.choice(sorted(forms))
        scores = [dice.choice([dice.randint(0, 10), dice.randint(0, 20) / 2]) for _ in range(2)]
        content = forms[form](dice, scores)
        response = content if isinstance(content, dict) else completion(content)
        values = tuple(float(one) for one in scores) if state == SCORED else None
        made.append(Made(form, response, state, values))
    return made
