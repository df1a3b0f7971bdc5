"""Questions about the objects of a picture, and their answers, from the chain that describes it.

Belongs here: what is asked, and which pictures it can be asked of. Not here: batches of questions
(`curriculum`), or the phrases that are true of one object (`scenes.referents`).
"""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np

from got_core.chain.grammar import Boxed, Chain, PlacedBox, Text
from got_core.foundation.config import FoundationConfig
from got_core.foundation.vision import DESCRIBE_PROMPT
from got_core.scenes.referents import WORDS, Seen, pointed_out
from got_core.scenes.world import PLURALS, RGB, SceneObject

LOCATE_PROMPT = "Find in the image: {}."
LIST_PROMPT = "Find: {}."
"""Of the other's words, which are all that the tokenizer knows of it."""
RECALL_PROMPT = "Find in the image:"
"""Of the same words. There is no image: the places have been said."""

CAPTION_PROMPT = "Describe the image."
"""Of the words of the prompt that asks for places, too."""

ARTICLES = {"a", "an", "the"}


def question_words(config: FoundationConfig) -> tuple[str, ...]:
    """Texts with the words that the tokenizer has to know besides those of prompts and chains."""
    return WORDS if config.referent_share > 0 else ()


def has_choice(chain: Chain) -> bool:
    """Whether the chain has at least two objects with unlike phrases, of which one can be asked for."""
    phrases = [placed.phrase for placed in chain.boxes]
    return len(set(phrases)) > 1 and any(phrases.count(phrase) == 1 for phrase in phrases)


def share_a_word(chain: Chain) -> bool:
    """Whether objects of the chain with unlike phrases are alike in a word: a colour or a form."""
    names = {frozenset(placed.phrase.split()) - ARTICLES for placed in chain.boxes}
    return any(one & other for one, other in combinations(names, 2))


def repeat_objects(chain: Chain, rng: np.random.Generator) -> tuple[Chain, dict[int, list[int]]]:
    """The objects of a chain with their boxes, then those with a phrase of their own once more, shuffled; all
    of them where none has one.

    Beside it, of the boxes that come again, by number, the numbers under which they were said.
    """
    phrases = [placed.phrase for placed in chain.boxes]
    single = [k for k, phrase in enumerate(phrases) if phrases.count(phrase) == 1]
    single = single or list(range(len(phrases)))
    parts: list[Text | Boxed] = []
    for phrase, placed in zip(phrases, chain.boxes, strict=True):
        parts += [Text(f" {phrase} "), Boxed(placed.box)]
    repeated: dict[int, list[int]] = {}
    for k in rng.permutation(single).tolist():
        repeated[len(parts) // 2] = [k]
        parts += [Text(f" {_definite(phrases[k])} "), Boxed(chain.boxes[k].box)]
    return Chain(tuple(parts)), repeated


def caption_of(chain: Chain) -> Chain:
    """A chain's words without its boxes."""
    words = "".join(part.text for part in chain.parts if isinstance(part, Text))
    return Chain((Text(f" {' '.join(words.split())}"),))


def question(chain: Chain, rng: np.random.Generator, *, lists: bool = True) -> tuple[str, Chain]:
    """A prompt that names one of a chain's objects, and the answer: its box.

    With ``lists`` half of the answers are a piece of an edit chain, where a number stands between name and
    box. An object that shares its phrase with another cannot be asked for; where no other is there, the
    picture is to be described. One object at a time: the last of several is found by elimination.
    """
    phrases = [placed.phrase for placed in chain.boxes]
    single = [placed for placed in chain.boxes if phrases.count(placed.phrase) == 1]
    if not single:
        return DESCRIBE_PROMPT, chain
    chosen = single[int(rng.integers(len(single)))]
    return _asked(_definite(chosen.phrase), chosen, rng, lists)


def question_by_referent(
    chain: Chain, rng: np.random.Generator, side: int, *, lists: bool = True
) -> tuple[str, Chain]:
    """As :func:`question`, but the prompt says what is true of the object alone ("the largest shape"); the
    answer names it. A name is asked for where nothing of the kind can be said.

    Phrases are those of scenes, whose objects have a colour and a shape. ``side``: of the picture, in pixels.
    """
    found = pointed_out(Seen(_objects(chain, side), (side, side)))
    if not found:
        return question(chain, rng, lists=lists)
    referent = found[int(rng.integers(len(found)))]
    return _asked(referent.phrase, chain.boxes[referent.objects[0]], rng, lists)


def _asked(said: str, chosen: PlacedBox, rng: np.random.Generator, lists: bool) -> tuple[str, Chain]:
    name = _definite(chosen.phrase)
    listed = lists and rng.random() < 0.5
    prompt, lead = (LIST_PROMPT, f" 2. {name} 3. ") if listed else (LOCATE_PROMPT, f" {name} ")
    return prompt.format(said), Chain((Text(lead), Boxed(chosen.box)))


def _definite(phrase: str) -> str:
    return re.sub(r"^an? ", "the ", phrase)


def _objects(chain: Chain, side: int) -> tuple[SceneObject, ...]:
    """The objects of a chain that has boxes of scenes only; else none."""
    objects = []
    for placed in chain.boxes:
        *_, color, shape = ["", "", *placed.phrase.split()]
        if color not in RGB or shape not in PLURALS:
            return ()
        x1, y1, x2, y2 = (round(value) for value in placed.box.to_pixels(side, side))
        objects.append(SceneObject(shape, color, x1, y1, x2, y2, RGB[color]))
    return tuple(objects)
