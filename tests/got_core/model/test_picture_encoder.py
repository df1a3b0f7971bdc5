"""Encoding with little work: calls of bounded size, black once, a copy in 16 bits that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from got_core.chain.grammar import parse
from got_core.model.build import build_autoencoder
from got_core.model.config import AutoencoderConfig
from got_core.model.guidance import black_latents, encode, spatial_latents
from got_core.model.picture_encoder import PictureEncoder
from tests.got_core.tiny_pipeline import TINY

KL = replace(
    TINY, autoencoder=AutoencoderConfig(kind="kl", latent_channels=4, block_out_channels=(32, 32, 32, 32))
)
CHAINS = [
    parse(text)
    for text in (
        "a cat (100,100),(400,400) and a dog (500,500),(900,900)",
        "nothing",
        "a cup (0,0),(999,999)",
    )
]


@pytest.fixture(params=[TINY, KL], ids=["patch", "kl"])
def autoencoder(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build_autoencoder(request.param).requires_grad_(False).eval()


@contextmanager
def counted(encoder: PictureEncoder) -> Iterator[list[int]]:
    """Pictures in each call of the first convolution."""
    calls: list[int] = []
    first = next(part for part in encoder._autoencoder.modules() if isinstance(part, nn.Conv2d))
    hook = first.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    yield calls
    hook.remove()


def test_latents_are_the_autoencoders_own(autoencoder: nn.Module) -> None:
    encoder, pictures = PictureEncoder(autoencoder), torch.rand(5, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(encoder.pictures(pictures), encode(autoencoder, pictures))
    torch.testing.assert_close(encoder.black(64, 64), black_latents(autoencoder, 1, 64, 64))
    found, expected = encoder.spatial(CHAINS, 64, 64), spatial_latents(autoencoder, CHAINS, 64, 64)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
    assert torch.equal(found[1:2], encoder.black(64, 64))


def test_calls_are_bounded_by_pixels_and_not_by_slicing(autoencoder: nn.Module) -> None:
    autoencoder.enable_slicing()
    encoder = PictureEncoder(autoencoder, pixels_at_once=2 * 64 * 64)
    with counted(encoder) as calls:
        encoder.pictures(torch.zeros(5, 3, 64, 64))
        encoder.pictures(torch.zeros(5, 3, 32, 32))
        encoder.pictures(torch.zeros(2, 3, 128, 128))
    assert calls == [2, 2, 1, 5, 1, 1] and autoencoder.use_slicing


def test_black_is_encoded_once_a_size_and_equal_canvases_once(autoencoder: nn.Module) -> None:
    encoder = PictureEncoder(autoencoder)
    with counted(encoder) as calls:
        for size in ((64, 64), (64, 32), (64, 64)):
            encoder.black(*size)
        assert calls == [1, 1]
        encoder.spatial([parse("nothing")] * 2, 64, 64)
        assert calls == [1, 1]
        encoder.spatial([*CHAINS, *CHAINS], 64, 64)
        assert calls == [1, 1, 3]
    other = PictureEncoder(build_autoencoder(TINY))
    assert other.black(64, 64).data_ptr() != encoder.black(64, 64).data_ptr()


def test_a_copy_in_16_bits_leaves_the_autoencoder_alone(autoencoder: nn.Module) -> None:
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    encoder = PictureEncoder(autoencoder, dtype=torch.bfloat16)
    found, exact = encoder.pictures(pictures), encode(autoencoder, pictures)
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
    assert (
        found.dtype == encoder.black(64, 64).dtype == encoder.spatial(CHAINS, 64, 64).dtype == torch.float32
    )
    assert 0 < float((found - exact).abs().max() / exact.abs().max()) < 0.05
    assert all(torch.equal(value, before[name]) for name, value in autoencoder.state_dict().items())


def test_the_same_format_needs_no_copy(autoencoder: nn.Module) -> None:
    own = {p.data_ptr() for p in autoencoder.parameters()}
    assert {p.data_ptr() for p in PictureEncoder(autoencoder, dtype=torch.float32).parameters()} < own


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_encodes_channels_last(autoencoder: nn.Module) -> None:
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    exact = encode(autoencoder, pictures)
    encoder = PictureEncoder(autoencoder.cuda(), dtype=torch.bfloat16)
    weight = next(p for p in encoder.parameters() if p.ndim == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    found = encoder.pictures(pictures).cpu()
    assert float((found - exact).abs().max() / exact.abs().max()) < 0.05
