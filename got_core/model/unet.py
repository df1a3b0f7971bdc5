"""A `UNet2DConditionModel` without its last norm; larger models use diffusers' own."""

from __future__ import annotations

import functools
from typing import Any

# How a part is loaded, a pipeline finds out by the names beside its class: so ModelMixin has to be here.
from diffusers import ModelMixin, UNet2DConditionModel  # noqa: F401


class UNetWithoutOutputNorm(UNet2DConditionModel):
    """Diffusers' U-Net without the group norm and the activation before its last convolution.

    A norm divides by what is in the whole picture. Of noise that does not matter: its mean and scale are
    known. Where the U-Net answers the clean latent, the level of a background can be blurred by it, though
    Gr shows it and skip connections carry it there.
    """

    # Wrapped, so that diffusers finds the names of the settings, which are the same.
    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.conv_norm_out = None
        self.conv_act = None
