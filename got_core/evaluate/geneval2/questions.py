"""How questions are put to a judge, and which tokens count as the expected answer.

`NUMBERS` is this project's way: a counting question is answered with a number in digits, and every spelling
counts once. `published_way` is that of the published script, whose wording it reads from the user's checkout:
it sums the first token of each spelling, of the judge's own tokenizer, as often as it comes, so the sum may
pass 1.

Belongs here: these two ways. Not here: asking (`server`), or what a reply says (`probabilities`).
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_core.evaluate.geneval2.prompts import NUMBERS as NUMBER_WORDS
from got_core.evaluate.geneval2.prompts import Question
from got_core.evaluate.protocol import Network, text_sha256

SCRIPT = "evaluation.py"
SCRIPT_SHA256 = "90791e35321a1a2bf65366517dd60f39037f90435490eb122c0027b52d42cda9"
"""Of the published script (commit a6e82d2)."""

WORDING_SHA256 = "e04ecd761296510b69505c1b861c8354ef75e91cec3b198a43646f3375c258ef"
"""Of its wording, with {} for the question."""

TOKENIZER = "tokenizer.json"

YES_NO = "{} Reply with Yes or No and nothing else."
COUNT = "{} Reply with one number in digits and nothing else."

YES = ("Yes", "yes", " yes", " Yes")
"""Spellings of the answer to all questions that are not about a number."""


@dataclass(frozen=True, kw_only=True)
class Put:
    """A question as it is put."""

    template: str
    """Its wording, with {} for the question."""

    text: str
    tokens: Mapping[str, int]
    """Tokens that count as the expected answer, and how often each."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to put questions."""

    name: str
    """Of the benchmark: `geneval2` or `geneval2/published`."""

    suffix: str = ""
    """Of the protocol's name, where the wording is not the published one."""

    put: Callable[[Question], Put]
    prompt_texts: Mapping[str, str]
    """SHA-256 of each wording."""

    rules: Mapping[str, Any]
    networks: Mapping[str, Network] = field(default_factory=dict)


class CheckoutError(ValueError):
    """A checkout of GenEval 2 from which the published wording cannot be read."""


def digits_of(word: str) -> str:
    """The digits of a number in words, from one to ten."""
    return str(NUMBER_WORDS.index(word) + 1)


def spellings(question: Question) -> tuple[str, ...]:
    """Spellings of the expected answer that count, six for a number and four for Yes."""
    if not question.counting:
        return YES
    word, digits = question.answer, digits_of(question.answer)
    return (word, word.capitalize(), f" {word}", f" {word.capitalize()}", digits, f" {digits}")


# ---------------------------------------------------------------- this project's way


def _put_numbers(question: Question) -> Put:
    template = COUNT if question.counting else YES_NO
    if question.answer == NUMBER_WORDS[-1]:
        raise ValueError(
            f"{question.text!r} has the answer {question.answer}, whose first token may be that of one: this "
            "way of asking takes numbers up to nine; score this list the published way"
        )
    return Put(
        template=template,
        text=template.format(question.text),
        tokens=dict.fromkeys(spellings(question), 1),
    )


NUMBERS = Way(
    name="geneval2",
    put=_put_numbers,
    prompt_texts={"yes_no": text_sha256(YES_NO), "count": text_sha256(COUNT)},
    rules={
        "answer": "probability that the reply's first token is a spelling of the expected answer, each "
        "spelling once",
        "yes": list(YES),
        "number": ["word", "Word", " word", " Word", "digits", " digits"],
        "outside": "0, with a bound",
    },
)
"""Counting questions are answered in digits; a spelling counts once, and only as a whole token."""


# ---------------------------------------------------------------- the published way


def published_way(checkout: Path, tokenizer: Path) -> Way:
    """The published way, with the wording of a checkout's script and the judge's tokenizer.

    `tokenizer`: `tokenizer.json`, or a folder that holds it, such as the judge's own. Raises CheckoutError
    or FileNotFoundError, which say what is needed.
    """
    template, path = published_wording(checkout), tokenizer
    path = path / TOKENIZER if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not a file; the published way counts tokens of the judge's tokenizer: give the "
            f"folder of the judge's model, or its {TOKENIZER}"
        )
    first = _first_tokens(path)

    def put(question: Question) -> Put:
        tokens = Counter(first(spelling) for spelling in spellings(question))
        return Put(template=template, text=template.format(question.text), tokens=tokens)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Way(
        name="geneval2/published",
        suffix="" if text_sha256(template) == WORDING_SHA256 else f"wording-{text_sha256(template)[:12]}",
        put=put,
        prompt_texts={"question": text_sha256(template)},
        rules={
            "answer": "sum of the probabilities of the first token of each spelling, equal ones again and "
            "again, so it may pass 1",
            "yes": list(YES),
            "number": ["word", "Word", " word", " Word", "digits", " digits"],
            "outside": "0, with a bound",
        },
        networks={"tokenizer": Network(name=TOKENIZER, files={TOKENIZER: digest})},
    )


def published_wording(checkout: Path) -> str:
    """The wording of a checkout's script for one question, with {} for the question.

    The script is parsed, not run. Raises CheckoutError.
    """
    path = checkout / SCRIPT if checkout.is_dir() else checkout
    if not path.is_file():
        raise CheckoutError(
            f"{path} is not a file; the published wording is read from {SCRIPT} of "
            "github.com/facebookresearch/GenEval2 (CC BY-NC 4.0): clone it"
        )
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CheckoutError(f"{path} is no Python file ({error}); clone the repository again") from error
    found = set(_wordings(tree))
    if len(found) != 1:
        raise CheckoutError(
            f"{path} has {len(found)} wordings in a function soft_tifa, needed is one (a text with {{}} and "
            ".format(question)); take the published script"
        )
    return found.pop()


def _wordings(tree: ast.Module) -> list[str]:
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "soft_tifa"]
    calls = [node.func for one in functions for node in ast.walk(one) if isinstance(node, ast.Call)]
    owners = [call.value for call in calls if isinstance(call, ast.Attribute) and call.attr == "format"]
    texts = [one.value for one in owners if isinstance(one, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and text.count("{}") == 1 == text.count("{")]


def _first_tokens(path: Path) -> Callable[[str], str]:
    """The text of a spelling's first token, as the script's tokenizer has it."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise CheckoutError(f"{path} is no tokenizer ({error}); give the judge's {TOKENIZER}") from error

    def first(spelling: str) -> str:
        ids = tokenizer.encode(spelling).ids
        if not ids:
            raise CheckoutError(f"{path} has no token for {spelling!r}; give the judge's {TOKENIZER}")
        return tokenizer.decode(ids[:1], skip_special_tokens=False)

    return first
