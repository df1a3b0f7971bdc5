"""The patch autoencoder: closed-form fit, AutoencoderKL's interface, saving."""

from __future__ import annotations

from pathlib import Path

import torch

from got_core.model.autoencoder import PatchAutoencoder


def pictures(count: int = 32) -> torch.Tensor:
    """Smooth random pictures (N, 3, 32, 32) in [-1, 1]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")


def test_all_components_reconstruct_exactly() -> None:
    vae = PatchAutoencoder(patch_size=4, latent_channels=48, refiner_channels=0)
    kept = vae.fit_projection(pictures())
    with torch.no_grad():
        torch.testing.assert_close(vae(pictures()), pictures(), atol=1e-3, rtol=0)
    assert kept > 0.9999


def test_fewer_components_keep_most_of_the_variance_at_unit_scale() -> None:
    vae = PatchAutoencoder(patch_size=4, latent_channels=12, refiner_channels=8)
    kept = vae.fit_projection(pictures())
    with torch.no_grad():
        latents = vae.encode(pictures()).latent_dist.mode()
        error = (vae.decode(latents).sample - pictures()).pow(2).mean() / pictures().var()
    assert latents.shape == (32, 12, 8, 8)
    assert 0.8 < latents.pow(2).mean() < 1.2
    assert abs(float(error) - (1 - kept)) < 0.02


def test_sample_and_mode_agree_and_slicing_changes_nothing(tmp_path: Path) -> None:
    vae = PatchAutoencoder(patch_size=4, latent_channels=12, refiner_channels=8)
    vae.fit_projection(pictures())
    with torch.no_grad():
        posterior = vae.encode(pictures()).latent_dist
        torch.testing.assert_close(posterior.sample(), posterior.mode(), atol=1e-4, rtol=0)
        whole = vae.decode(posterior.mode()).sample
        vae.enable_slicing()
        torch.testing.assert_close(vae.decode(posterior.mode()).sample, whole)
        vae.save_pretrained(tmp_path)
        again = PatchAutoencoder.from_pretrained(tmp_path)
        torch.testing.assert_close(again.decode(posterior.mode()).sample, whole)
