"""Figures that authors published for their own models.

Belongs here: such figures, to stand beside measured ones. Not here: anything that was measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

MARK = "published, not measured here"


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """A model's overall score, in its authors' words."""

    model: str
    overall: float
    note: str = ""


_REWARD = "trained on a GenEval reward"

GENEVAL = (
    PublishedFigure(model="GoT", overall=0.64),
    PublishedFigure(model="GoT-R1-7B", overall=0.75),
    PublishedFigure(model="Janus-Pro-7B", overall=0.80),
    PublishedFigure(model="BAGEL", overall=0.82),
    PublishedFigure(model="BAGEL", overall=0.88, note="with rewritten prompts"),
    PublishedFigure(model="Qwen-Image", overall=0.87),
    PublishedFigure(model="SenseNova-U1.5", overall=0.92),
    PublishedFigure(model="SD3.5-M + Flow-GRPO", overall=0.95, note=_REWARD),
    PublishedFigure(model="SD3.5-M + DiffusionNFT", overall=0.98, note=_REWARD),
)
"""Overall; by mmdet's Mask2Former, so under another protocol than any here."""

FIGURES = {"geneval": GENEVAL}
"""By benchmark."""
