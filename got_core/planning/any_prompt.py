"""Checking and repairing the plan of any prompt, as far as its words are understood.

    pipe(prompt, on_plan=repaired)

Belongs here: choosing between text to image (`check`, `repair`) and edits (`edits`) where a caller has any
prompt. Not here: the checks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from got_core.chain.grammar import Chain, Dropped
from got_core.planning.check import Fault, Requirements, check_plan
from got_core.planning.edits import check_edit_plan, repair_edit_plan
from got_core.planning.repair import repair_plan
from got_core.scenes.edits import parse_instruction
from got_core.scenes.prompts import parse_prompt


def faults_of(
    chain: Chain, prompt: str, has_image: bool, dropped: Sequence[Dropped] = ()
) -> list[Fault] | None:
    """What is wrong with a plan; None where the prompt is of no style that can be checked.

    Relations are measured as in a square picture. `has_image`: the prompt is an instruction for an edit.
    `dropped`: as in `check_plan`.
    """
    if not _understood(prompt, has_image):
        return None
    if has_image:
        return check_edit_plan(chain, prompt, dropped=dropped)
    return check_plan(chain, Requirements.of_prompt(prompt), dropped)


def repaired(chain: Chain, prompt: str, has_image: bool) -> Chain:
    """The chain without the faults that moving its boxes can repair; as it is where the prompt is of no
    style that can be checked.

    Relations are measured as in a square picture.
    """
    if not _understood(prompt, has_image):
        return chain
    if has_image:
        return repair_edit_plan(chain, prompt)
    return repair_plan(chain, Requirements.of_prompt(prompt))


mended = repaired  # the name by which copies of `pyfunc` in older registry entries import it


def _understood(prompt: str, has_image: bool) -> bool:
    try:
        parse_instruction(prompt) if has_image else parse_prompt(prompt)
    except ValueError:
        return False
    return True
