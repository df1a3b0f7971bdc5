"""The guidance formula, its shortcuts, and the conditions that the U-Net reads."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.chain.layout import canvases
from got_core.model.backbones.sdxl_unet import widen_input
from got_core.model.build import build_autoencoder, build_unet
from got_core.model.canvases import to_tensor
from got_core.model.config import GuidanceScales
from got_core.model.guidance import (
    black_latents,
    branches,
    combine,
    encode,
    spatial_latents,
)
from tests.got_core.model.tiny_checkpoints import TINY as KL
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

CHAINS = [
    "a cat (100,100),(400,400) and a dog (500,500),(900,900)",
    "nothing to place",
    "a cup (0,0),(999,999)",
]


def four_branch_sum(
    outputs: dict[tuple[bool, bool, bool], torch.Tensor], scales: GuidanceScales
) -> torch.Tensor:
    """The formula as the paper writes it."""
    nothing, reference = outputs[False, False, False], outputs[False, False, True]
    text, everything = outputs[True, False, True], outputs[True, True, True]
    return (
        nothing
        + scales.text * (text - reference)
        + scales.spatial * (everything - text)
        + scales.reference * (reference - nothing)
    )


PASSES = [
    ((7.5, 4.0, 1.0), 3),
    ((4.0, 3.0, 1.5), 4),
    ((1.0, 1.0, 1.0), 1),
    ((3.0, 3.0, 1.0), 2),
    ((1.0, 4.0, 1.0), 2),
    ((4.0, 4.0, 4.0), 2),
    ((4.0, 4.0, 1.5), 3),
    ((1.5, 3.0, 1.5), 3),
    ((4.0, 0.0, 1.5), 3),
    ((4.0, 0.0, 4.0), 2),
    ((1.0, 0.0, 1.0), 1),
    ((0.0, 0.0, 1.0), 1),
    ((0.0, 3.0, 0.0), 3),
    ((0.0, 0.0, 0.0), 1),
    ((-1.0, 2.0, 0.5), 4),
]
"""Scales, and how many branches the formula then needs."""
GRID = [
    (text, spatial, reference)
    for text in (0.0, 1.0, 4.0, 7.5)
    for spatial in (0.0, 1.0, 2.0, 3.0, 4.0)
    for reference in (0.0, 1.0, 1.5, 4.0)
]


@pytest.mark.parametrize(("scales", "passes"), PASSES)
def test_left_out_branches_do_not_change_the_sum(scales: tuple[float, float, float], passes: int) -> None:
    given = GuidanceScales(text=scales[0], spatial=scales[1], reference=scales[2])
    used = branches(given)
    generator = torch.Generator().manual_seed(0)
    outputs = {
        key: torch.randn(2, 4, 8, 8, generator=generator)
        for key in [(False, False, False), (False, False, True), (True, False, True), (True, True, True)]
    }
    total = combine([outputs[b.text, b.spatial, b.reference] for b in used], used)
    assert len(used) == passes
    torch.testing.assert_close(total, four_branch_sum(outputs, given), atol=1e-5, rtol=0)


def test_no_combination_of_scales_changes_the_sum() -> None:
    generator = torch.Generator().manual_seed(1)
    keys = [(False, False, False), (False, False, True), (True, False, True), (True, True, True)]
    outputs = {key: torch.randn(2, 4, 8, 8, generator=generator) for key in keys}
    for text, spatial, reference in GRID:
        given = GuidanceScales(text=text, spatial=spatial, reference=reference)
        used = branches(given)
        total = combine([outputs[b.text, b.spatial, b.reference] for b in used], used)
        torch.testing.assert_close(total, four_branch_sum(outputs, given), atol=1e-5, rtol=0)


def test_a_whole_step_with_branches_left_out_equals_four_unet_passes() -> None:
    pipeline = sees_its_conditions(tiny_pipeline())
    chains = [parse(text) for text in CHAINS]
    conditions = pipeline.encode_conditions(chains, ["a", "b", "c"], None, 64, 64)
    latents = torch.randn(
        3, TINY.autoencoder.latent_channels, 8, 8, generator=torch.Generator().manual_seed(1)
    )
    t = torch.tensor(500.0)
    with torch.no_grad():
        single = {
            (b.text, b.spatial, b.reference): pipeline.predict(latents, t, conditions, [b], (64, 64))
            / b.weight
            for b in branches(GuidanceScales(text=4.0, spatial=3.0, reference=1.5))
        }
        apart = [(a - b).abs().max() for a, b in combinations(single.values(), 2)]
        assert len(single) == 4 and min(apart) > 1e-2, "branches that agree would hide a mistake"
        for scales, passes in PASSES:
            given = GuidanceScales(text=scales[0], spatial=scales[1], reference=scales[2])
            used = branches(given)
            short = pipeline.predict(latents, t, conditions, used, (64, 64))
            torch.testing.assert_close(short, four_branch_sum(single, given), atol=1e-4, rtol=1e-4)
            assert len(used) == passes


def test_the_unet_reads_noise_reference_and_boxes_in_this_order_with_one_pooled_vector() -> None:
    pipeline = tiny_pipeline()
    chains = [parse(CHAINS[0]), parse(CHAINS[2])]
    sources = [Image.new("RGB", (9, 5), color) for color in ("red", "blue")]
    conditions = pipeline.encode_conditions(chains, ["a", "b"], sources, 64, 64)
    latents = torch.randn(2, TINY.autoencoder.latent_channels, 8, 8)
    seen: dict[str, torch.Tensor] = {}

    def look(_: object, args: tuple, kwargs: dict) -> None:
        seen.update(kwargs["added_cond_kwargs"], sample=args[0], context=kwargs["encoder_hidden_states"])

    pipeline.unet.register_forward_pre_hook(look, with_kwargs=True)
    used = branches(GuidanceScales(text=4.0, spatial=3.0, reference=1.5))
    with torch.no_grad():
        pipeline.predict(latents, torch.tensor(500.0), conditions, used, (64, 48))
    noisy, reference, spatial = seen["sample"].chunk(3, dim=1)
    for row, (branch, k) in enumerate((branch, k) for branch in used for k in range(2)):
        assert torch.equal(noisy[row], latents[k])
        assert torch.equal(reference[row], conditions.reference[k] * branch.reference)
        assert torch.equal(spatial[row], conditions.spatial[k] * branch.spatial)
        assert torch.equal(seen["context"][row], (conditions.context if branch.text else conditions.null)[k])
        assert torch.equal(seen["text_embeds"][row], conditions.pooled[k])
        assert seen["time_ids"][row].tolist() == [64, 48, 0, 0, 64, 48]
    assert not torch.equal(conditions.pooled[0], conditions.pooled[1])
    bias = pipeline.projector.output_projector.bias
    assert torch.equal(conditions.null[0], bias.expand_as(conditions.null[0]))
    assert conditions.reference.any() and conditions.spatial.any()


def test_spatial_guidance_is_the_mean_over_one_latent_a_box() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(TINY)
    chains = [parse(text) for text in CHAINS]
    together = spatial_latents(vae, chains, 64, 64)
    for chain, found in zip(chains, together, strict=True):
        alone = [encode(vae, to_tensor(canvas[None]))[0] for canvas in canvases(chain, 64, 64)]
        torch.testing.assert_close(found, torch.stack(alone).mean(dim=0))
    torch.testing.assert_close(together[1:2], black_latents(vae, 1, 64, 64))


def test_conditions_are_the_posterior_mode_and_not_scaled() -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(KL)
    assert vae.config.scaling_factor == 0.13025
    chain = parse(CHAINS[0])
    pictures = to_tensor(canvases(chain, 16, 16))
    with torch.no_grad():
        mean, log_variance = vae.quant_conv(vae.encoder(pictures)).chunk(2, dim=1)
        assert log_variance.min() > -10
        torch.testing.assert_close(spatial_latents(vae, [chain], 16, 16)[0], mean.mean(dim=0))
        black = vae.quant_conv(vae.encoder(torch.full((1, 3, 16, 16), -1.0))).chunk(2, dim=1)[0]
        torch.testing.assert_close(black_latents(vae, 2, 16, 16), black.expand(2, -1, -1, -1))


def test_widened_input_computes_the_same_until_new_channels_learn() -> None:
    torch.manual_seed(0)
    unet = build_unet(TINY).eval()
    channels = TINY.autoencoder.latent_channels
    latents, extra = torch.randn(2, channels, 8, 8), torch.randn(2, 2 * channels, 8, 8)
    arguments = {
        "timestep": torch.tensor([10.0, 900.0]),
        "encoder_hidden_states": torch.randn(2, 4, TINY.unet.cross_attention_dim),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(2, TINY.unet.pooled_dim),
            "time_ids": torch.ones(2, 6),
        },
    }
    with torch.no_grad():
        before = unet(latents, **arguments).sample
        bias = unet.conv_in.bias.clone()
        widen_input(unet)
        after = unet(torch.cat([latents, extra], dim=1), **arguments).sample
    assert unet.config.in_channels == 3 * channels
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(unet.conv_in.bias, bias)


def test_pictures_become_tensors_between_minus_one_and_one() -> None:
    pixels = np.array([[[[0, 127, 255]]]], dtype=np.uint8)
    found = to_tensor(pixels)
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([-1.0, -0.00392, 1.0], abs=1e-4)
