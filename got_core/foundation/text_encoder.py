"""The frozen text encoder of the small foundation: what CLIP is to SDXL, at the size of a scene.

The U-Net's foundation learns to draw from its output, and the language model's to imitate that output at its
image tokens (as GILL aligns a language model with a text encoder), so the two meet half way: joint training
starts with guidance that the U-Net can read. GoT itself throws the encoder away.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from got_core.chain.edits import EditStep, read_edit_chain
from got_core.chain.grammar import Boxed, Chain, ChainError, Text, parse


class PhraseEncoder:
    """Random word vectors, fixed by the word and the seed, summed to one token a phrase.

    Token k stands for the phrase of the k-th box and, in an edit chain, for what becomes of it; the last
    token for the words after the last box (of an edit: the result). Phrases beyond the number of tokens are
    left out. Coordinates are not encoded: places are the canvases' business.

    A word's vector does not depend on which others there are, so a drawing model that has learned from one
    corpus reads the words of another.
    """

    def __init__(self, tokens: int, width: int, pooled: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.slots = torch.randn(tokens, width, generator=generator)
        self.pool = torch.randn(width, pooled, generator=generator) / math.sqrt(width)
        self._seed = seed
        self._vectors: dict[tuple[str, str], Tensor] = {}
        self._sums: dict[tuple[str, str], Tensor] = {}

    def __call__(self, chains: Sequence[Chain]) -> tuple[Tensor, Tensor]:
        """Context (B, T, width) and pooled vector (B, pooled) of chains."""
        context = torch.stack([torch.stack([self._token(*text) for text in self.texts(c)]) for c in chains])
        context = 0.5 * (context + self.slots)
        return context, context.mean(dim=1) @ self.pool

    def texts(self, chain: Chain) -> list[tuple[str, str]]:
        """Phrase and change that each token stands for; empty where there are fewer boxes than tokens."""
        try:
            plan = read_edit_chain(chain)
        except ChainError:
            placed = [(item.phrase, "") for item in chain.boxes]
            last = max((k for k, part in enumerate(chain.parts) if isinstance(part, Boxed)), default=-1)
            rest = "".join(part.text for part in chain.parts[last + 1 :] if isinstance(part, Text))
        else:
            placed, rest = [text for step in plan.steps for text in _step_texts(step)], plan.result
        places = len(self.slots) - 1
        return [*placed[:places], *[("", "")] * (places - len(placed)), (rest, "")]

    def _token(self, phrase: str, change: str) -> Tensor:
        if (phrase, change) not in self._sums:
            # Vectors of their own: a bag of words could not tell red to blue from blue to red.
            self._sums[phrase, change] = self._sum("phrase", phrase) + self._sum("change", change)
        return self._sums[phrase, change]

    def _sum(self, role: str, text: str) -> Tensor:
        """Sum of the words' vectors without articles and numbers, no longer than that of two words."""
        words = re.findall(r"[^\W\d_]+", re.sub(r"\b(an?|the)\b", " ", text))
        vectors = [self._vector(role, word) for word in words]
        total = torch.stack(vectors).sum(dim=0) if vectors else torch.zeros(self.slots.shape[1])
        return total * math.sqrt(2 / max(2, len(words)))

    def _vector(self, role: str, word: str) -> Tensor:
        if (role, word) not in self._vectors:
            named = hashlib.sha256(f"{self._seed} {role} {word}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(named[:7], "big"))
            self._vectors[role, word] = torch.randn(self.slots.shape[1], generator=generator)
        return self._vectors[role, word]


def _step_texts(step: EditStep) -> list[tuple[str, str]]:
    """Of each box of a step: the object and its change; of a place inside the change, the object alone."""
    change = parse(step.change, "data")
    words = "".join(part.text for part in change.parts if isinstance(part, Text))
    return [*((step.object, words) for _ in step.boxes), *((step.object, "") for _ in change.boxes)]
