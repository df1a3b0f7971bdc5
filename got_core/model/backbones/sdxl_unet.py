"""SDXL's U-Net as the drawer: its conditions, its wider input, and its small instances.

Belongs here: everything that only this family does. Not here: the class with a skip (`unet`, whose module
path is part of saved pipelines), and published folders (``formats``).
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from got_core.model.backbones.protocols import Drawer, DrawerConditions
from got_core.model.config import ModelConfig
from got_core.model.unet import UNetWithInputSkip

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
"""Projections of attention and feed-forward layers, the names that SDXL's LoRA weights are published for."""


class UNetDrawer(Drawer):
    """A ``UNet2DConditionModel`` whose added conditions are a pooled text and six size numbers."""

    outer_layers = ("embed", "conv_in", "conv_out", "input_skip")

    def __init__(self, network: UNet2DConditionModel) -> None:
        self.network = network

    @property
    def latent_channels(self) -> int:
        """Channels of the answer."""
        return int(self.network.config.out_channels)

    @property
    def context_dim(self) -> int:
        """Width of the cross-attention's keys."""
        return int(self.network.config.cross_attention_dim)

    @property
    def pooled_dim(self) -> int:
        """What the added embedding takes beside six embedded size numbers."""
        config = self.network.config
        return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)

    def parts(self) -> dict[str, nn.Module]:
        """The U-Net."""
        return {"U-Net": self.network}

    def widen_input(self) -> None:
        """See ``Drawer``."""
        if self.network.config.in_channels == self.latent_channels:
            widen_input(self.network)

    def add_lora(self, *, rank: int, alpha: int, dropout: float) -> None:
        """See ``Drawer``. The widened input stays as it is too: a GoT model has learned to use it."""
        from peft import LoraConfig  # of the extra `pipeline`: drawing does without

        self.network.requires_grad_(False)
        targets = list(LORA_TARGETS)
        self.network.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
        )

    def predict(self, latents: Tensor, timesteps: Tensor, conditions: DrawerConditions) -> Tensor:
        """See ``Drawer``."""
        if conditions.reference is not None and conditions.spatial is not None:
            latents = torch.cat([latents, conditions.reference, conditions.spatial], dim=1)
        return self.network(
            latents,
            timesteps,
            encoder_hidden_states=conditions.context,
            added_cond_kwargs={"text_embeds": conditions.pooled, "time_ids": conditions.sizes},
        ).sample


def widen_input(unet: nn.Module, factor: int = 3) -> None:
    """Widen ``conv_in`` to ``factor`` times its channels: old weights first, zeros after, bias kept.

    The widened network computes exactly what the old one did until training gives the new channels weight.
    A U-Net's ``input_skip`` is widened alike.
    """
    unet.conv_in = _widened(unet.conv_in, factor)
    if hasattr(unet, "input_skip"):
        unet.input_skip = _widened(unet.input_skip, factor)
    unet.register_to_config(in_channels=unet.conv_in.in_channels)


@torch.no_grad()
def _widened(old: nn.Conv2d, factor: int) -> nn.Conv2d:
    new = nn.Conv2d(
        old.in_channels * factor,
        old.out_channels,
        old.kernel_size,
        padding=old.padding,
        bias=old.bias is not None,
        device=old.weight.device,
    ).to(old.weight.dtype)
    new.weight.zero_()
    new.weight[:, : old.in_channels] = old.weight
    if old.bias is not None:
        new.bias.copy_(old.bias)
    return new


def build_unet(config: ModelConfig) -> UNet2DConditionModel:
    """A text-to-image U-Net on C latent channels, SDXL's kind of conditioning; not yet widened to 3C."""
    part = config.unet
    attends = part.attention_levels or (True,) * len(part.block_out_channels)
    return unet_class(config)(
        sample_size=config.resolution // config.autoencoder.patch_size,
        in_channels=config.autoencoder.latent_channels,
        out_channels=config.autoencoder.latent_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        mid_block_type="UNetMidBlock2DCrossAttn" if part.middle_block else None,
        block_out_channels=part.block_out_channels,
        layers_per_block=part.layers_per_block,
        cross_attention_dim=part.cross_attention_dim,
        attention_head_dim=part.attention_heads,
        transformer_layers_per_block=part.transformer_layers,
        norm_num_groups=part.norm_groups,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=part.time_id_dim,
        projection_class_embeddings_input_dim=part.pooled_dim + 6 * part.time_id_dim,
    )


def unet_class(config: ModelConfig) -> type[UNet2DConditionModel]:
    """Diffusers' U-Net, or the one with a skip."""
    return UNetWithInputSkip if config.unet.input_skip else UNet2DConditionModel
