"""Editing in rounds: the pictures of a round are the sources of the next.

Belongs here: which instructions make a round, checked before the first is drawn. Not here: the edit itself
(`pipeline`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PIL import Image

from got_core.model import inputs
from got_core.model.inputs import as_list

NOT_OF_ROUNDS = {"prompt", "num_images_per_prompt", "output_type", "return_dict", "earlier"}
"""Arguments of a call that a round decides by itself."""


def check_options(names: Iterable[str]) -> None:
    """Raise ValueError for options that rounds do not take."""
    refused = NOT_OF_ROUNDS & set(names)
    if refused:
        raise ValueError(f"edit_rounds does not take {', '.join(sorted(refused))}")


def prompts_of_rounds(
    pictures: Sequence[Image.Image] | None, instructions: Sequence[str | Sequence[str]]
) -> list[list[str]]:
    """The prompts of each round, one a picture. Raises ValueError or TypeError for what cannot be used."""
    if not instructions or isinstance(instructions, str):
        raise ValueError("`instructions` must be a list with one entry a round")
    if not pictures:
        raise ValueError("`image` is empty; pass the picture to edit")
    rounds = [[entry] * len(pictures) if isinstance(entry, str) else as_list(entry) for entry in instructions]
    for prompts in rounds:
        inputs.check_prompts(prompts)
        inputs.check_sources(pictures, prompts)
    return rounds
