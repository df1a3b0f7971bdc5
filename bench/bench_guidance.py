"""A picture by the released way of guidance against the pipeline's, and with its guidance reused.

The released way, written after its published description: all four branches of the guidance formula at every
step, whatever their scales. Same weights, noise, conditions and decoding, the paper's scales; drawing alone.
The network has random weights, which do not change its time, and is wide enough to be bound by computing;
what is the same in all ways (conditions, decoding) is kept small beside it. The ways take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model import schedule
from got_core.model.build import fresh_pipeline
from got_core.model.conditioning import Conditions
from got_core.model.config import GuidanceReuse, GuidanceScales, ModelConfig, UNetConfig
from got_core.model.decoding import sizes_in_aspect
from got_core.model.guidance import Branch
from got_core.model.pipeline import EDIT_SCALES, GENERATE_SCALES, GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.recipes import embedded

SIDE, STEPS, ROUNDS = 512, 8, 5
CHAIN = parse("a red circle (100,100),(400,400) and a blue cross (500,500),(900,900) on a grey background")
PROMPT = "a photo of a red circle and a blue cross"
SOURCE = Image.effect_noise((SIDE, SIDE), 60).convert("RGB")
REUSE = GuidanceReuse(every=4)
UNET = UNetConfig(
    block_out_channels=(64, 128, 256),
    layers_per_block=1,
    attention_heads=8,
    attention_levels=(False, True, True),
    norm_groups=32,
    cross_attention_dim=192,
)
"""Bound by computing from one row on: at 64 x 64 cells a row takes as long alone as among four (.17 s on one
core); at 16 x 16 cells and 37 million parameters it took 1.9 times as long alone."""
BRANCHES = (
    Branch(True, True, True, 1.0),
    Branch(True, False, True, 1.0),
    Branch(False, False, True, 1.0),
    Branch(False, False, False, 1.0),
)

Pictures: TypeAlias = list[Image.Image]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn: so many pictures in one call, of edits or not."""

    name: str
    batch: int
    edit: bool

    @property
    def scales(self) -> GuidanceScales:
        """The paper's."""
        text, spatial, reference = EDIT_SCALES if self.edit else GENERATE_SCALES
        return GuidanceScales(text=text, spatial=spatial, reference=reference)

    @property
    def sources(self) -> list[Image.Image] | None:
        """Pictures to edit."""
        return [SOURCE] * self.batch if self.edit else None

    def by_pipeline(self, pipe: GoTPipeline, reuse: GuidanceReuse | None = None) -> Pictures:
        """The pictures, by the pipeline."""
        noise = torch.Generator().manual_seed(0)
        chains, prompts = [CHAIN] * self.batch, [PROMPT] * self.batch
        return pipe.draw(chains, prompts, self.sources, generator=noise, guidance_reuse=reuse)  # type: ignore[return-value]

    @torch.no_grad()
    def released(self, pipe: GoTPipeline) -> Pictures:
        """The pictures, by a loop with all four branches in one call of the network."""
        conditions = pipe.encode_conditions(
            [CHAIN] * self.batch, [PROMPT] * self.batch, self.sources, SIDE, SIDE
        )
        schedule.set_timesteps(pipe.scheduler, STEPS, pipe._cells(SIDE, SIDE))
        latents = pipe.prepare_latents(self.batch, SIDE, SIDE, torch.Generator().manual_seed(0))
        for t in pipe.scheduler.timesteps:
            output = _four_branches(pipe, latents, t, conditions, self.scales)
            output = schedule.as_scheduled(pipe.scheduler, pipe.config.prediction, output, latents, t)
            latents = pipe.scheduler.step(output, t, latents, return_dict=False)[0]
        sizes = sizes_in_aspect(self.sources, SIDE) if self.sources else None
        return pipe.decode(latents, "pil", sizes)  # type: ignore[return-value]


DRAWINGS = (
    Drawing(name="text to image, batch 1", batch=1, edit=False),
    Drawing(name="text to image, batch 4", batch=4, edit=False),
    Drawing(name="edit, batch 1", batch=1, edit=True),
)


def _four_branches(
    pipe: GoTPipeline, latents: torch.Tensor, t: torch.Tensor, given: Conditions, scales: GuidanceScales
) -> torch.Tensor:
    everything, text, reference, nothing = pipe.predict_branches(latents, t, given, BRANCHES, (SIDE, SIDE))
    return (
        nothing
        + scales.text * (text - reference)
        + scales.spatial * (everything - text)
        + scales.reference * (reference - nothing)
    )


def build_pipeline() -> GoTPipeline:
    """Random weights, on all channels of the input: a fresh network ignores boxes and source."""
    model: ModelConfig = replace(
        embedded().model,
        resolution=SIDE,
        unet=UNET,
        autoencoder=replace(embedded().model.autoencoder, refiner_channels=0),
        inference_steps=STEPS,
        generate_scales=DRAWINGS[0].scales,
        edit_scales=DRAWINGS[-1].scales,
    )
    pipe = fresh_pipeline(model, train_tokenizer([PROMPT, CHAIN.to_model()], model.image_tokens))
    torch.nn.init.normal_(pipe.unet.conv_in.weight, std=0.02)
    return pipe


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time of one call, and processor time of all its threads."""
    started, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - busy


def counted(pipe: GoTPipeline, work: Callable[[], Pictures]) -> tuple[Pictures, int]:
    """The pictures, and the rows that went through the drawing network for them."""
    rows: list[int] = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    try:
        return work(), sum(rows)
    finally:
        hook.remove()


def check_alike(name: str, one: Pictures, other: Pictures) -> None:
    """Raise AssertionError where two ways do not draw the same pictures."""
    apart = np.abs(np.int16(np.stack(one)) - np.int16(np.stack(other))).max()
    if apart > 2:
        raise AssertionError(f"{name}: both ways must draw the same, and differ by {apart} levels")


def compare(pipe: GoTPipeline, drawing: Drawing) -> dict[str, float | str]:
    """Passes a picture of the three ways, and how many times as fast as the released way the others are."""
    ways: dict[str, Callable[[], Pictures]] = {
        "released": lambda: drawing.released(pipe),
        "plain": lambda: drawing.by_pipeline(pipe),
        "reuse": lambda: drawing.by_pipeline(pipe, REUSE),
    }
    first = {name: counted(pipe, work) for name, work in ways.items()}
    check_alike(drawing.name, first["released"][0], first["plain"][0])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            times[name].append(seconds(work))
    found: dict[str, float | str] = {
        f"{drawing.name}: passes": ", ".join(
            f"{name} {rows / drawing.batch:g}" for name, (_, rows) in first.items()
        )
    }
    for k, clock in enumerate(("wall", "CPU")):
        for name in ("plain", "reuse"):
            pairs = zip(times["released"], times[name], strict=True)
            found[f"{drawing.name}: {name}, {clock}"] = statistics.median(a[k] / b[k] for a, b in pairs)
    return found


def main() -> dict[str, float | str]:
    """Medians of rounds in which the ways take turns; above 1 is faster than the released way."""
    pipe = build_pipeline()
    return {key: value for drawing in DRAWINGS for key, value in compare(pipe, drawing).items()}
