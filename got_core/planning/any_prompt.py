"""Checking and repairing the plan of any prompt, as far as its words are understood.

    pipe(prompt, on_plan=repaired)

Belongs here: choosing between text to image (`check`, `repair`) and edits (`edits`) where a caller has any
prompt. Not here: the checks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from got_core.chain.grammar import Chain, Dropped
from got_core.planning.check import Fault, Requirements, check_plan
from got_core.planning.edits import check_edit_plan, repair_edit_plan
from got_core.planning.repair import repair_plan
from got_core.scenes.edits import instruction as standard_wording
from got_core.scenes.edits import parse_instruction
from got_core.scenes.prompts import parse_prompt
from got_core.scenes.reasoning import resolve


def faults_of(
    chain: Chain,
    prompt: str,
    has_image: bool,
    dropped: Sequence[Dropped] = (),
    source: Image.Image | None = None,
) -> list[Fault] | None:
    """What is wrong with a plan; None where the prompt is of no style that can be checked.

    Relations are measured as in a square picture. `has_image`: the prompt is an instruction for an edit.
    `dropped`: as in `check_plan`. `source`: the picture to edit; without it, instructions that need reasoning
    cannot be checked.
    """
    words = _understood(prompt, has_image, source)
    if words is None:
        return None
    if has_image:
        return check_edit_plan(chain, words, dropped=dropped)
    return check_plan(chain, Requirements.of_prompt(words), dropped)


def repaired(chain: Chain, prompt: str, has_image: bool, source: Image.Image | None = None) -> Chain:
    """The chain without the faults that moving its boxes can repair; as it is where the prompt is of no
    style that can be checked.

    Relations are measured as in a square picture. `source`: as in `faults_of`.
    """
    words = _understood(prompt, has_image, source)
    if words is None:
        return chain
    if has_image:
        return repair_edit_plan(chain, words)
    return repair_plan(chain, Requirements.of_prompt(words))


mended = repaired  # the name by which copies of `pyfunc` in older registry entries import it


def _understood(prompt: str, has_image: bool, source: Image.Image | None) -> str | None:
    """The words by which a plan can be checked; None where there are none."""
    try:
        parse_instruction(prompt) if has_image else parse_prompt(prompt)
    except ValueError:
        return _plain_words(prompt, source) if has_image and source is not None else None
    return prompt


def _plain_words(instruction: str, source: Image.Image) -> str | None:
    """What an instruction that needs reasoning asks for in a picture of a scene."""
    from got_core.scenes.reader import read_scene  # brings SciPy

    try:
        return standard_wording(resolve(instruction, read_scene(source), source.size))
    except ValueError:
        return None
