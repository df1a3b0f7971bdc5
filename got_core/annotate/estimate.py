"""What annotating a table will take, before the first request.

Belongs here: calls, tokens, GPU hours and money of each step, from the prompts, the pictures' sizes and usual
lengths of replies. Not here: what it really took (`usage`) and the limits (`spending`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from got_core.annotate.config import OpenAIConfig
from got_core.annotate.pictures import image_tokens, size_sent
from got_core.annotate.prompt_files import prompt
from got_core.annotate.usage import Usage

CHARACTERS_PER_TOKEN = 4
_TEMPLATE_TOKENS = 24
ENTITIES_PER_IMAGE = 4.0
"""Usual number of objects that are grounded (the published sets have 3.8 to 4.1 boxes an image)."""

_CALLS: dict[str, tuple[tuple[str, bool, float, int, int], ...]] = {
    # Prompt, whether a picture goes with it, calls a row, characters filled in, tokens of the reply.
    "captions": (("t2i_prompt", True, 1, 0, 32), ("t2i_caption", True, 1, 130, 200)),
    "entities": (("t2i_entities", False, 1, 860, 40),),
    "boxes": (("ground", True, ENTITIES_PER_IMAGE, 40, 30),),  # or `_together`
    "edit_descriptions": (
        ("edit_steps", False, 1, 60, 24),
        ("edit_task", False, 1, 60, 8),
        ("edit_parse_replace", False, 1, 60, 20),
        ("edit_describe", True, 2, 20, 50),
        ("edit_rewrite", False, 1, 60, 60),
    ),
    "edit_boxes": (("ground", True, 1, 40, 30), ("edit_crop", True, 1, 0, 24)),
    "edit_chains": (("edit_chain", False, 1, 560, 140),),
}
STEPS = tuple(_CALLS)
"""Steps that send requests to a model; the assembly of text-to-image chains is code."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a step, or several, will take."""

    rows: int
    calls: int
    tokens_in: int
    tokens_out: int
    gpu_hours: float
    money: float
    """Tokens by their price, or GPU hours by theirs, whichever prices are set; both where both are."""

    def __add__(self, other: Estimate) -> Estimate:
        """Two steps over the same rows."""
        return Estimate(
            rows=max(self.rows, other.rows),
            calls=self.calls + other.calls,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            gpu_hours=self.gpu_hours + other.gpu_hours,
            money=self.money + other.money,
        )


def estimate_step(
    step: str,
    rows: int,
    config: OpenAIConfig,
    sizes: pl.DataFrame | None = None,
    calls_per_row: float | None = None,
) -> Estimate:
    """What one of STEPS takes over so many rows, none of them answered before.

    `sizes` holds `width` and `height` of the pictures in pixels (a sample of them will do); without it they
    are taken to be as large as they are sent at most. `calls_per_row` replaces the usual number where it is
    known; for `boxes` it is the number of names, which may go into one request.
    Raises ValueError for an unknown step.
    """
    if step not in _CALLS:
        raise ValueError(f"unknown step {step!r}; the steps that ask a model are {', '.join(STEPS)}")
    picture = _picture_tokens(sizes, config)
    listed = _CALLS[step]
    usual = sum(calls for _, _, calls, _, _ in listed)
    scale = rows * (1.0 if calls_per_row is None else calls_per_row / usual)
    if step == "boxes" and config.boxes == "together":
        listed, scale = _together(usual if calls_per_row is None else calls_per_row), rows
    used, calls = Usage(), 0
    for name, with_picture, per_row, filled_in, reply in listed:
        requests = round(scale * per_row)
        template = prompt(name)
        characters = len(template.text) + len(template.schema_text or "") + filled_in
        each = math.ceil(characters / CHARACTERS_PER_TOKEN) + _TEMPLATE_TOKENS + with_picture * picture
        tokens_in, tokens_out = requests * each, requests * reply
        used += Usage(tokens_in, tokens_out, config.price(tokens_in, tokens_out))
        calls += requests
    hours = (used.tokens_in / config.gpu_tokens_in + used.tokens_out / config.gpu_tokens_out) / 3600
    return Estimate(
        rows=rows,
        calls=calls,
        tokens_in=used.tokens_in,
        tokens_out=used.tokens_out,
        gpu_hours=hours,
        money=used.cost + hours * config.gpu_price,
    )


def _together(names: float) -> tuple[tuple[str, bool, float, int, int], ...]:
    """One request for the boxes of so many names of a picture."""
    name = "ground_together" if names > 1 else "ground"
    return ((name, True, min(1.0, names), round(12 * names), round(24 * names)),)


def _picture_tokens(sizes: pl.DataFrame | None, config: OpenAIConfig) -> int:
    """Mean number of visual tokens of a picture."""
    known = sizes.select("width", "height").drop_nulls() if sizes is not None else pl.DataFrame()
    if known.is_empty():
        return image_tokens(config.image_side, config.image_side, config)
    counts = [image_tokens(*size_sent(w, h, config), config) for w, h in known.iter_rows()]
    return math.ceil(sum(counts) / len(counts))
