"""The frozen text encoder of the small foundation: what CLIP is to SDXL, at the size of a scene.

The U-Net's foundation learns to draw from its output, and the language model's to imitate that output at its
image tokens (as GILL aligns a language model with a text encoder), so the two meet half way: joint training
starts with guidance that the U-Net can read. GoT itself throws the encoder away.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from got_core.chain.grammar import Boxed, Chain, Text


class PhraseEncoder:
    """Random word vectors, fixed by the seed, summed to one token a phrase.

    Token k stands for the phrase of the k-th box, the last token for the words after the last box; phrases
    beyond the number of tokens are left out. Coordinates are not encoded: places are the canvases' business.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, tokens: int, width: int, pooled: int, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokenizer = tokenizer
        self.words = torch.randn(len(tokenizer), width, generator=generator)
        self.slots = torch.randn(tokens, width, generator=generator)
        self.pool = torch.randn(width, pooled, generator=generator) / math.sqrt(width)
        self._sums: dict[str, Tensor] = {}

    def __call__(self, chains: Sequence[Chain]) -> tuple[Tensor, Tensor]:
        """Context (B, T, width) and pooled vector (B, pooled) of chains."""
        context = torch.stack([torch.stack([self._phrase(text) for text in self.texts(c)]) for c in chains])
        context = 0.5 * (context + self.slots)
        return context, context.mean(dim=1) @ self.pool

    def texts(self, chain: Chain) -> list[str]:
        """What each token stands for; empty where there are fewer boxes than tokens."""
        places = len(self.slots) - 1
        phrases = [placed.phrase for placed in chain.boxes][:places]
        last = max((k for k, part in enumerate(chain.parts) if isinstance(part, Boxed)), default=-1)
        rest = "".join(part.text for part in chain.parts[last + 1 :] if isinstance(part, Text))
        return [*phrases, *[""] * (places - len(phrases)), rest]

    def _phrase(self, text: str) -> Tensor:
        """Sum of a phrase's word vectors without articles and numbers, no longer than that of two words."""
        if text not in self._sums:
            words = re.findall(r"[^\W\d_]+", re.sub(r"\b(an?|the)\b", " ", text))
            ids = [
                i for word in words for i in self.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            ]
            self._sums[text] = self.words[ids].sum(dim=0) * math.sqrt(2 / max(2, len(ids)))
        return self._sums[text]
