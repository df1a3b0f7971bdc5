"""A `UNet2DConditionModel` with a short way from input to answer; larger models use diffusers' own."""

from __future__ import annotations

import functools
from typing import Any

# How a part is loaded, a pipeline finds out by the names beside its class: so ModelMixin has to be here.
from diffusers import ModelMixin, UNet2DConditionModel  # noqa: F401
from torch import Tensor, nn

SKIP_GAIN = 8.0
"""Factor on the skip's weights: to reach 1 from 0 at the rates of the others would take them 500 steps."""


class UNetWithInputSkip(UNet2DConditionModel):
    """Diffusers' U-Net that adds a linear map of each place's input channels, zero at first, to its answer.

    Made for answering the clean latent: what an edit leaves as it is stands in Gr, and need not be squeezed
    through hidden channels. There is no group norm and activation before the last convolution either: a norm
    divides by what is in the whole picture, and blurs how bright it is.
    """

    # Wrapped, so that diffusers finds the names of the settings, which are the same.
    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.conv_norm_out = None
        self.conv_act = None
        self.input_skip = nn.Conv2d(self.config.in_channels, self.config.out_channels, 1, bias=False)
        nn.init.zeros_(self.input_skip.weight)

    def forward(self, sample: Tensor, *args: Any, **settings: Any) -> Any:
        """As diffusers' own, of which all arguments are."""
        answer = super().forward(sample, *args, **settings)
        skipped = SKIP_GAIN * self.input_skip(sample)
        if isinstance(answer, tuple):
            return (answer[0] + skipped, *answer[1:])
        answer.sample = answer.sample + skipped
        return answer
