"""Drawing with less memory: the autoencoder in pieces, and models on the GPU only while they compute.

Belongs here: switches, and what offloading needs beside calling ``forward``. Not here: the hooks of
offloading, which are accelerate's, and their order (`pipeline`).
"""

from __future__ import annotations

from typing import Any

from torch import nn


class AutoencoderMemory:
    """A pipeline whose ``vae`` can work in pieces."""

    vae: Any

    def enable_vae_slicing(self) -> None:
        """Encode canvases and decode pictures one at a time: less memory for many boxes or pictures."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Encode and decode whole batches again."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Encode and decode in tiles: less memory for large pictures. `AutoencoderKL` blends tile borders."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Encode and decode whole pictures again."""
        self.vae.disable_tiling()


def onload(module: nn.Module) -> None:
    """Run the offloading hook of a model that is used other than through its ``forward``.

    What diffusers' ``apply_forward_hook`` does for one method; nothing where models are not offloaded.
    """
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
