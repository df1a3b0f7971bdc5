"""A patch autoencoder with ``AutoencoderKL``'s interface, small enough to be fitted in seconds.

Encoding is one linear map of every patch (principal components); decoding is its transpose followed by a
small residual network that repairs patch borders. Larger models use diffusers' ``AutoencoderKL`` unchanged.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F


class PatchAutoencoder(ModelMixin, AutoencoderMixin, ConfigMixin):
    """Linear encoder, linear decoder and residual refiner over square patches.

    Images are (B, 3, H, W) in [-1, 1] with H and W multiples of ``patch_size``; latents are
    (B, latent_channels, H / patch_size, W / patch_size) with about unit mean variance over a fitted corpus.
    Slicing encodes and decodes one image at a time. Tiling may be enabled and changes nothing: the networks
    are so small that whole pictures need hardly more memory than their pixels.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: int = 8,
        latent_channels: int = 48,
        refiner_channels: int = 48,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, latent_channels, patch_size, stride=patch_size)
        self.decoder = nn.ConvTranspose2d(latent_channels, 3, patch_size, stride=patch_size)
        self.refiner = _refiner(refiner_channels) if refiner_channels else None
        self.use_slicing = False
        self.use_tiling = False

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """Posterior of the latents; the log variance is very small, so mode and samples agree."""
        mean = torch.cat([self.encoder(part) for part in self._slices(x)])
        log_variance = torch.full_like(mean, -30.0)
        posterior = DiagonalGaussianDistribution(torch.cat([mean, log_variance], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z: Tensor, return_dict: bool = True, generator: object = None) -> DecoderOutput | tuple:
        """Images (B, 3, H, W), nominally in [-1, 1], from latents."""
        image = torch.cat([self._decode(part) for part in self._slices(z)])
        return DecoderOutput(sample=image) if return_dict else (image,)

    def forward(self, sample: Tensor) -> Tensor:
        """Encode and decode."""
        return self._decode(self.encoder(sample))

    def _slices(self, batch: Tensor) -> tuple[Tensor, ...]:
        return batch.split(1) if self.use_slicing else (batch,)

    def _decode(self, z: Tensor) -> Tensor:
        image = self.decoder(z)
        return image if self.refiner is None else image + self.refiner(image)

    @torch.no_grad()
    def fit_projection(self, images: Tensor, balance: float = 0.5) -> float:
        """Set encoder and decoder to the principal components of the images' patches.

        ``images`` is (B, 3, H, W) in [-1, 1]. A component's standard deviation s becomes s ** (1 - balance)
        before all are scaled to unit mean variance: 0 keeps their proportions, in which the brightness of the
        background drowns shape and colour, 1 makes all alike. Returns the share of the variance that is kept.
        """
        size, channels = self.config.patch_size, self.config.latent_channels
        patches = F.unfold(images, size, stride=size).transpose(1, 2).reshape(-1, 3 * size * size).double()
        # The decoder has one bias a colour, so patches are centred on the mean colour, not the mean patch.
        color = patches.reshape(-1, 3, size * size).mean(dim=(0, 2))
        mean = color.repeat_interleave(size * size)
        second_moment = (patches - mean).T @ (patches - mean) / len(patches)
        values, vectors = torch.linalg.eigh(second_moment)
        values, vectors = values.flip(0)[:channels], vectors.flip(1)[:, :channels]
        spread = values.clamp(min=1e-12).sqrt()
        wanted = spread ** (1 - balance)
        scale = spread / wanted * wanted.pow(2).mean().sqrt()
        weight = vectors.T.reshape(channels, 3, size, size)
        self.encoder.weight.copy_(weight / scale[:, None, None, None])
        self.encoder.bias.copy_(-(vectors.T @ mean) / scale)
        self.decoder.weight.copy_(weight * scale[:, None, None, None])
        self.decoder.bias.copy_(color)
        return float(values.sum() / second_moment.trace())


def _refiner(channels: int) -> nn.Sequential:
    """Three convolutions at half resolution; the last starts at zero: unfitted, it changes nothing."""
    last = nn.Conv2d(channels, 12, 3, padding=1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(12, channels, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.SiLU(),
        last,
        nn.PixelShuffle(2),
    )
