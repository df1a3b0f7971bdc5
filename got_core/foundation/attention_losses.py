"""Losses of attention: the language model is shown where to look while it writes a chain.

Belongs here: at an object whose place is being written, and at the prompt's words for a token. Not here: what
visual tokens show (`vision`), and which words those are (`word_alignment`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from got_core.chain.boxes import Box
from got_core.chain.grammar import BOX_START
from got_core.foundation.vision import shared_areas
from got_core.model.sequence import SequenceBuilder

FIRST_WEIGHT = 5.0
"""The other coordinates follow from the first one, by its place if not by the object's name."""

SMALLEST_SHARE = 1e-4
"""Of the attention, so that its logarithm stays finite."""


def pointing_loss(
    attention: Tensor,
    input_ids: Tensor,
    seen: Sequence[Mapping[int, Box]],
    repeated: Sequence[Mapping[int, Sequence[int]]],
    sequences: SequenceBuilder,
) -> Tensor:
    """How little is looked at an object where its coordinates are about to be said.

    Minus the logarithm of the share of ``attention`` (B, heads, L, L) that half of the heads give to the
    object's visual tokens, for boxes in ``seen``, or to the same coordinate where it was said before, for
    those in ``repeated``; a mean over the coordinates of these boxes, of which there must be one. The first
    coordinate counts `FIRST_WEIGHT` times: there it is decided which object it is.

    From the chains' cross-entropy alone a small model learns late, if at all, to choose among objects by
    name: for long it says the place of any.
    """
    attended = _looking(attention)
    coordinates = _coordinates(sequences)
    start_id = sequences.tokenizer.convert_tokens_to_ids(BOX_START)
    shares = []
    for row, (boxes, again) in enumerate(zip(seen, repeated, strict=True)):
        visual = (input_ids[row] == sequences.pad_id).nonzero()[:, 0]
        starts = (input_ids[row] == start_id).nonzero()[:, 0]
        for number, before in again.items():
            earlier = starts[list(before), None] + coordinates + 1
            shares.append(attended[row, starts[number] + coordinates, earlier].sum(dim=0))
        for number, box in boxes.items():
            shares.append(attended[row, starts[number] + coordinates][:, _shown(box, visual)].sum(dim=1))
    losses = -(torch.stack(shares) + SMALLEST_SHARE).log().mean(dim=0)
    weights = losses.new_tensor([FIRST_WEIGHT, 1.0, 1.0, 1.0])
    return (losses * weights).sum() / weights.sum()


def naming_loss(
    attention: Tensor, input_ids: Tensor, named: Sequence[Mapping[int, Box]], sequences: SequenceBuilder
) -> Tensor:
    """How little is looked at an object where the words that name it are about to be said.

    As :func:`pointing_loss`, for tokens by their position and the place of what they name; a mean over the
    tokens in ``named``, of which there must be one.

    Where the instruction does not name the object ("the largest shape"), this is where it is chosen.
    """
    attended = _looking(attention)
    shares = []
    for row, tokens in enumerate(named):
        visual = (input_ids[row] == sequences.pad_id).nonzero()[:, 0]
        shares += [attended[row, token - 1, _shown(box, visual)].sum() for token, box in tokens.items()]
    return -(torch.stack(shares) + SMALLEST_SHARE).log().mean()


def instruction_loss(attention: Tensor, aligned: Sequence[Mapping[int, Sequence[int]]]) -> Tensor:
    """How little is looked at what the prompt says of a token that is about to be said.

    Minus the logarithm of the share of ``attention`` (B, heads, L, L) that those heads give to it that
    :func:`pointing_loss` leaves alone; a mean over the tokens in ``aligned``, of which there must be one.

    Else a small model is slow to learn which step of an instruction comes next.
    """
    attended = attention[:, attention.shape[1] // 2 :].float().mean(dim=1)
    tokens = [
        (row, token - 1, prompted) for row, words in enumerate(aligned) for token, prompted in words.items()
    ]
    pairs = [(number, row, at, k) for number, (row, at, prompted) in enumerate(tokens) for k in prompted]
    number, row, at, k = torch.tensor(pairs).T
    shares = attended.new_zeros(len(tokens)).index_add(0, number, attended[row, at, k])
    return -(shares + SMALLEST_SHARE).log().mean()


def _looking(attention: Tensor) -> Tensor:
    """The mean attention (B, L, L) of the heads that look at pictures: the first half."""
    return attention[:, : max(1, attention.shape[1] // 2)].float().mean(dim=1)


def _shown(box: Box, visual: Tensor) -> Tensor:
    """Of the visual tokens' positions, those that show most of a box."""
    cells = shared_areas(box, math.isqrt(len(visual))).flatten()
    return visual[torch.from_numpy(cells >= cells.max() / 2)]


def _coordinates(sequences: SequenceBuilder) -> Tensor:
    """Where the four numbers of a box are said: distances from its start marker to the tokens before them."""
    tokens = sequences.tokenizer.convert_ids_to_tokens(sequences.chain("(1,1),(1,1)"))
    return torch.tensor([place for place, token in enumerate(tokens) if token == "1"])
