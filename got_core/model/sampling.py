"""Sampling of chains with generators of the caller's.

Belongs here: how the next token is drawn. `generate` of transformers samples from torch's global generator
only, so the draw is made in a logits processor and `generate` merely takes the token that is left.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from got_core.model.inputs import Generators


class SeededSampling(LogitsProcessor):
    """Draws one token a row, and leaves no other possible.

    `generator` is one for the batch, or a list of one a row: a row's chain then does not depend on what it
    shares the batch with. None: torch's global generator.
    """

    def __init__(self, temperature: float, top_p: float | None, generator: Generators) -> None:
        self.generator = generator
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(float(temperature))])
        if top_p is not None and top_p < 1:
            self.warpers.append(TopPLogitsWarper(float(top_p)))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, vocabulary) to scores that are 0 for the drawn token and minus infinity elsewhere."""
        probabilities = self.warpers(input_ids, scores.float()).softmax(dim=-1)
        if isinstance(self.generator, list):
            rows = probabilities.split(1)
            drawn = torch.cat([_draw(row, one) for row, one in zip(rows, self.generator, strict=True)])
        else:
            drawn = _draw(probabilities, self.generator)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def _draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """A token a row (B, 1); the draw itself runs where the generator lives."""
    place = generator.device if generator is not None else probabilities.device
    return torch.multinomial(probabilities.to(place), 1, generator=generator).to(probabilities.device)
