"""What GoT needs of the networks it is built around: a planner that writes chains, a drawer that draws.

Belongs here: the two protocols, and what holds for any network of transformers or diffusers. Not here: what
only one family does (its own module), and guidance, losses and steps, which know no family.

An adapter holds its network and nothing else: it is made where it is needed and never saved. Shapes: B
pictures, L tokens, T image tokens, C latent channels of h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from got_core.model.config import LossConfig
from got_core.model.noising import Generators, Noised, add_noise
from got_core.model.recomputation import checkpoint_options


class Backbone(Protocol):
    """What a planner and a drawer have in common."""

    network: Any
    """The network itself: of transformers or diffusers, without adapters around it."""
    outer_layers: tuple[str, ...]
    """Parts of names: weights that read or write tokens or latents, which Muon leaves to Adam."""

    def parts(self) -> dict[str, nn.Module]:
        """The network's parts by the names that people know them by; together they hold all its weights."""
        ...

    def set_checkpointing(self, wanted: bool, *, selective: bool = False) -> None:
        """Recompute activations in the backward pass (all, or those that are cheap), or keep them."""
        ...

    def indivisible_layers(self) -> list[nn.Module]:
        """Layers that stay whole where a model is spread over workers, outer ones first."""
        names = set(self.network._no_split_modules or ())
        return [layer for layer in self.network.modules() if type(layer).__name__ in names]


class ChatFormat(Protocol):
    """How a planner's tokenizer and image processor write one message with a picture in it."""

    image_processor: Any
    picture: str
    """The token that the chat template writes for a picture."""
    visual_tokens: int
    """How many of them the picture becomes."""
    reserved: tuple[str, ...]
    """What stands behind ``<|`` in tokens that only templates and the model may write."""

    def pictures(self, images: Sequence[Image.Image], places: Tensor) -> dict[str, Tensor]:
        """The planner's further inputs for pictures, one a row; ``places`` (B, L) is true at their tokens."""
        ...


class Planner(Backbone, Protocol):
    """A multimodal language model: it writes chains, and its hidden states guide the drawer."""

    @property
    def hidden_size(self) -> int:
        """Width of its hidden states."""
        ...

    @staticmethod
    def chat_format(image_processor: Any, image_size: int) -> ChatFormat:
        """How messages are written; pictures are stretched to squares of ``image_size`` pixels."""
        ...

    def hidden_states(self, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states after the last layer and its norm (B, L, hidden) of a collated batch."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token (..., vocabulary) from hidden states (..., hidden)."""
        ...

    def rows(self, batch: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
        """What :meth:`hidden_states` takes, for some rows of a collated batch."""
        ...

    def separate_head(self) -> None:
        """Give a head that shares the embedding's weights its own, in place."""
        ...

    def with_lora(self, *, rank: int, alpha: int, dropout: float, whole: bool = True) -> Any:
        """The network with LoRA layers in it (PEFT); ``whole``: what the family chooses is trained whole
        beside them, else nothing is."""
        ...


@dataclass(frozen=True, kw_only=True)
class DrawerConditions:
    """What a drawer is given beside noisy latents."""

    context: Tensor
    """Gt for cross-attention (B, T, context_dim)."""
    pooled: Tensor
    """Gt as one vector (B, pooled_dim)."""
    sizes: Tensor
    """Original height and width, top and left of the crop, target height and width (B, 6), in pixels."""
    reference: Tensor | None = None
    """Gr (B, C, h, w), not scaled; None, with ``spatial``: the drawer is not a conditioned one yet."""
    spatial: Tensor | None = None
    """Gs (B, C, h, w), not scaled."""


class Drawer(Backbone, Protocol):
    """A diffusion network: from noisy latents and conditions to noise, velocity or clean latents."""

    @property
    def latent_channels(self) -> int:
        """C, the channels of a latent cell."""
        ...

    @property
    def context_dim(self) -> int:
        """Width of the context that it attends to."""
        ...

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector."""
        ...

    def widen_input(self) -> None:
        """Let a network that takes C channels take 3C: noisy latents, Gr, Gs. Nothing where it does already.

        It answers as before until training gives the new channels weight.
        """
        ...

    def add_lora(self, *, rank: int, alpha: int, dropout: float) -> None:
        """Put LoRA layers (PEFT) into the network, in place; nothing but them is trained then."""
        ...

    def merge_lora(self) -> None:
        """Merge LoRA layers into the weights they belong to, in place. Nothing where there are none."""
        if getattr(self.network, "peft_config", None):
            self.network.fuse_lora()
            self.network.unload_lora()

    def predict(self, latents: Tensor, timesteps: Tensor, conditions: DrawerConditions) -> Tensor:
        """The answer (B, C, h, w) for noisy latents (B, C, h, w) at timesteps (B,) or (), from 0 to 1000."""
        ...

    def noised(
        self, clean: Tensor, config: LossConfig, generator: Generators, scheduler: Any = None
    ) -> Noised:
        """Scaled latents made noisy at random times, and what the network should answer to them."""
        return add_noise(clean, config, generator, scheduler)

    def scale(self, latents: Tensor, autoencoder: Any) -> Tensor:
        """The autoencoder's latents as the network draws them."""
        return latents * autoencoder.config.scaling_factor

    def unscale(self, latents: Tensor, autoencoder: Any) -> Tensor:
        """Drawn latents as the autoencoder decodes them."""
        return latents / autoencoder.config.scaling_factor

    def parts(self) -> dict[str, nn.Module]:
        """The whole network as one part."""
        return {"drawing network": self.network}

    def set_checkpointing(self, wanted: bool, *, selective: bool = False) -> None:
        """As diffusers' networks do it."""
        if wanted:
            self.network.enable_gradient_checkpointing(
                partial(checkpoint, **checkpoint_options(selective=selective))
            )
        else:
            self.network.disable_gradient_checkpointing()
