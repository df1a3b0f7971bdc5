"""Drawing with the foundation's U-Net as it was trained: guided by the text encoder that GoT throws away.

Belongs here: one pipeline. Not here: the encoder (``text_encoder``), and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.foundation.text_encoder import PhraseEncoder
from got_core.model.conditioning import Conditions
from got_core.model.pipeline import GoTPipeline


class PhraseGuidedPipeline(GoTPipeline):
    """A pipeline that draws from what the text encoder says of a chain, in place of the language model's
    states. Not to be saved."""

    encoder: PhraseEncoder

    @classmethod
    def around(cls, pipeline: GoTPipeline) -> PhraseGuidedPipeline:
        """Of the same networks; the encoder is that of their sizes."""
        settings = {name: value for name, value in pipeline.config.items() if name in _SETTINGS}
        made = cls(**pipeline.components, **settings)
        drawer = pipeline.drawer
        made.encoder = PhraseEncoder(pipeline.config.image_tokens, drawer.context_dim, drawer.pooled_dim)
        made.set_progress_bar_config(disable=True)
        return made

    def encode_conditions(
        self,
        chains: Sequence[Chain],
        prompts: Sequence[str],
        sources: Sequence[Image.Image] | None,
        height: int,
        width: int,
    ) -> Conditions:
        """As of any pipeline; Gt is the encoder's, its null is zeros, as the U-Net was trained."""
        conditions = super().encode_conditions(chains, prompts, sources, height, width)
        context, pooled = self.encoder(chains)
        return replace(conditions, context=context, pooled=pooled, null=torch.zeros_like(context))


_SETTINGS = (
    "resolution",
    "image_tokens",
    "source_size",
    "inference_steps",
    "max_new_tokens",
    "prediction",
    "generate_scales",
    "edit_scales",
    "spatial_guidance",
)
