"""Shortened canvases have the latents of whole ones, for a fraction of the operations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.canvas_encoder import Axis, encode_canvases, encodes_canvases
from got_core.model.canvases import Canvas, painted
from got_core.model.guidance import encode


@cache
def autoencoder(levels: int = 4, layers: int = 2, attention: bool = True) -> AutoencoderKL:
    """SDXL's structure at a small width with weights far from their start, in 64 bits."""
    torch.manual_seed(0)
    channels = (4, 4, 8, 8)[:levels]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=channels,
        layers_per_block=layers,
        latent_channels=4,
        norm_num_groups=2,
        mid_block_add_attention=attention,
    )
    for parameter in vae.double().parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return vae.requires_grad_(False)


def rectangle(height: int, width: int, corners: tuple[float, float, float, float]) -> Canvas:
    (top, bottom), (left, right) = sorted(corners[:2]), sorted(corners[2:])
    return Canvas(
        int(top * height), int(bottom * height) + 1, int(left * width), int(right * width) + 1, (200, 9, 77)
    )


SHARES = st.floats(0, 0.9999)
CORNERS = st.tuples(SHARES, SHARES, SHARES, SHARES)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(CORNERS, min_size=1, max_size=3),
    st.sampled_from([(256, 256), (200, 328), (64, 64)]),
    st.sampled_from([(4, 2, True), (3, 1, True), (2, 2, False), (1, 1, True)]),
)
def test_latents_are_those_of_whole_canvases(
    corners: list[tuple[float, float, float, float]], size: tuple[int, int], built: tuple[int, int, bool]
) -> None:
    vae = autoencoder(*built)
    canvases = [rectangle(*size, one) for one in corners]
    assert encodes_canvases(vae, *size)
    whole = encode(vae, painted(canvases, *size, "cpu"))
    torch.testing.assert_close(encode_canvases(vae, canvases, *size), whole, rtol=1e-9, atol=1e-9)


def test_in_32_and_16_bits_they_differ_as_rounding_does() -> None:
    canvases = [rectangle(256, 256, (0.2, 0.4, 0.5, 0.9)), rectangle(256, 256, (0.0, 0.9999, 0.3, 0.31))]
    exact = encode(autoencoder(), painted(canvases, 256, 256, "cpu"))
    for dtype, tolerance in ((torch.float32, 3e-4), (torch.bfloat16, 0.1)):
        vae = AutoencoderKL.from_config(autoencoder().config)
        vae.load_state_dict(autoencoder().state_dict())
        vae = torch.nn.Module.to(vae, dtype).requires_grad_(False)
        found = encode_canvases(vae, canvases, 256, 256)
        assert found.dtype == dtype
        assert float((found.double() - exact).abs().max() / exact.abs().max()) < tolerance


def test_a_canvas_of_1024_pixels_takes_about_a_tenth_of_the_operations() -> None:
    config = {
        **autoencoder().config, "block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32,
    }  # fmt: skip
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(config).requires_grad_(False)
        pictures = torch.empty(1, 3, 1024, 1024)
    canvas = rectangle(1024, 1024, (0.2, 0.4, 0.5, 0.9))
    flops = []
    for run in (lambda: encode(vae, pictures), lambda: encode_canvases(vae, [canvas], 1024, 1024)):
        with FlopCounterMode(display=False) as counter:
            assert run().shape == (1, 4, 128, 128)
        flops.append(counter.get_total_flops())
    assert 0.05 < flops[1] / flops[0] < 0.12


def test_what_an_edge_has_reached_is_kept_of_every_canvas_of_a_stack() -> None:
    axis = Axis([0, 100, 250, 255], [256, 101, 256, 256], 256, halvings=1)
    axis.shorten(3)
    assert axis.kept.shape[1] < 64 and (axis.counts().sum(axis=1) == 256).all()
    for kept, edges in zip(
        axis.kept, ((0, 256), (0, 100, 101, 256), (0, 250, 256), (0, 255, 256)), strict=True
    ):
        near = {p for edge in edges for p in range(edge - 4, edge + 4) if 0 <= p < 256}
        assert near <= set(kept.tolist())
        gaps = kept[1:][np.diff(kept) > 1]
        assert (gaps % 2 == 0).all(), "pairs stay pairs"


def test_other_autoencoders_and_odd_sizes_get_whole_canvases() -> None:
    assert not encodes_canvases(PatchAutoencoder(refiner_channels=0), 64, 64)
    assert not encodes_canvases(autoencoder(), 64, 68)
    other = AutoencoderKL.from_config(
        {**autoencoder().config, "down_block_types": ["AttnDownEncoderBlock2D"] * 4}
    )
    assert not encodes_canvases(other, 64, 64)
    tiled = AutoencoderKL.from_config(autoencoder().config)
    tiled.enable_tiling()
    assert not encodes_canvases(tiled, 64, 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_latents_on_a_gpu_are_those_of_the_processor() -> None:
    canvases = [rectangle(512, 256, (0.2, 0.4, 0.5, 0.9))]
    expected = encode_canvases(autoencoder(), canvases, 512, 256)
    vae = AutoencoderKL.from_config(autoencoder().config)
    vae.load_state_dict(autoencoder().state_dict())
    found = encode_canvases(vae.double().cuda().requires_grad_(False), canvases, 512, 256)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-6)
