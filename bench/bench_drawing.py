"""Eight prompts in one call against eight calls, at the embedded size: drawing, and planning with drawing.

Fresh weights: the time of a step does not depend on what was learned, and every plan has the same length.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from got_core.chain.grammar import parse
from got_core.model.build import fresh_pipeline
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.recipes import embedded

PROMPTS = [f"a photo of {n} cats" for n in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
CHAIN = parse("a red circle (100,100),(400,400) and a blue cross (500,500),(900,900) on a grey background")
PLAN_TOKENS, ROUNDS = 48, 5


def build_pipeline() -> GoTPipeline:
    """The embedded recipe's model with fresh weights."""
    config = replace(embedded().model, max_new_tokens=PLAN_TOKENS)
    return fresh_pipeline(config, train_tokenizer([*PROMPTS, CHAIN.to_model()], config.image_tokens))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> dict[str, float | str]:
    """Median seconds of both ways over alternating rounds, and their ratios."""
    pipeline = build_pipeline()

    def draw_together() -> object:
        return pipeline.draw([CHAIN] * 8, PROMPTS, generator=torch.Generator().manual_seed(0))

    def draw_alone() -> object:
        return [pipeline.draw(CHAIN, p, generator=torch.Generator().manual_seed(0)) for p in PROMPTS]

    def all_together() -> object:
        return pipeline(PROMPTS, generator=torch.Generator().manual_seed(0))

    def all_alone() -> object:
        return [pipeline(p, generator=torch.Generator().manual_seed(0)) for p in PROMPTS]

    ways = {
        "drawing, one call": draw_together,
        "drawing, eight calls": draw_alone,
        "planning and drawing, one call": all_together,
        "planning and drawing, eight calls": all_alone,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            times[name].append(seconds(work))
    found: dict[str, float | str] = {
        f"{name}, s": statistics.median(values) for name, values in times.items()
    }
    together, alone, both, each = (statistics.median(values) for values in times.values())
    return found | {"ratio, drawing": alone / together, "ratio, planning and drawing": each / both}
