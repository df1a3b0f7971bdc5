"""Edits that leave the source as it is outside the plan's boxes, and changed plans that leave the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.grammar import parse
from got_core.chain.layout import canvases
from got_core.model.canvases import to_tensor
from got_core.model.earlier import Earlier
from got_core.model.guidance import encode
from got_core.model.inpaint_mask import cells_of, free_cells
from got_core.model.pipeline import GoTPipeline
from tests.got_core.model.test_pipeline import pixels, seeded
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

CHAIN = parse("a red circle (130,260),(240,490)")
SOURCE = Image.linear_gradient("L").convert("RGB").resize((64, 64))


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    return sees_its_conditions(tiny_pipeline())


def source_latents(pipeline: GoTPipeline) -> torch.Tensor:
    pictures = torch.from_numpy(pixels([SOURCE]))
    return encode(pipeline.vae, to_tensor(pictures.numpy())) * pipeline.vae.config.scaling_factor


def test_cells_that_a_box_reaches_are_free() -> None:
    chains = [CHAIN, parse("no box"), parse("a cat (0,0),(130,120) and a dog (990,990),(999,999)")]
    free = free_cells(chains, 64, 64, stride=8)
    assert free.shape == (3, 1, 8, 8) and free.dtype == torch.bool
    # Columns 8 to 15 and rows 16 to 31, two more on each side.
    assert free[0, 0].nonzero().tolist() == [[y, x] for y in (1, 2, 3, 4) for x in (0, 1, 2)]
    assert free[1].all()
    assert free[2, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [7, 7]]


def test_free_cells_are_those_of_the_pixels_that_the_canvas_paints() -> None:
    for text in ("a (120,80),(420,380)", "b (333,10),(333,999)", "c (0,0),(375,250) d (999,999),(999,999)"):
        chain = parse(text)
        painted = torch.from_numpy(canvases(chain, 64, 96).any(axis=(0, 3)))
        assert torch.equal(free_cells([chain], 64, 96, stride=1)[0, 0], painted)
        # Cells of two pixels are too small for a margin.
        cells = painted.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).any(3).any(1)
        assert torch.equal(free_cells([chain], 64, 96, stride=2)[0, 0], cells)


@pytest.mark.parametrize("name", ["flow", "ddim", "euler"])
def test_outside_of_the_boxes_the_source_stays(name: str) -> None:
    pipeline = sees_its_conditions(tiny_pipeline())
    if name != "flow":
        # A network of another prediction would be refused; what it says does not matter here.
        pipeline.register_to_config(prediction="epsilon")
        pipeline.scheduler = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}[name]()
    free = free_cells([CHAIN], 64, 64, 8).expand(1, pipeline.unet.config.out_channels, 8, 8)
    arguments = {"image": SOURCE, "num_inference_steps": 3, "output_type": "latent"}
    plain, kept = (
        pipeline.draw(CHAIN, "edit", generator=seeded(), keep_outside=keep, **arguments)
        for keep in (False, True)
    )
    source = source_latents(pipeline)
    assert torch.allclose(kept[~free], source[~free], atol=1e-5)
    assert not torch.allclose(plain[~free], source[~free], atol=1e-2)
    assert not torch.allclose(kept[free], source[free], atol=1e-2)


def test_the_source_is_as_noisy_as_the_picture_is_at_each_step(pipeline: GoTPipeline) -> None:
    assert isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    noise, seen = pipeline.prepare_latents(1, 64, 64, seeded()), []
    pipeline.draw(
        CHAIN,
        "edit",
        image=SOURCE,
        latents=noise,
        num_inference_steps=4,
        keep_outside=True,
        callback_on_step_end=lambda pipe, step, t, values: seen.append(values["latents"]),
    )
    source, outside = source_latents(pipeline), ~free_cells([CHAIN], 64, 64, 8).expand_as(noise)
    for latents, sigma in zip(seen, pipeline.scheduler.sigmas[1:], strict=True):
        wanted = sigma * noise + (1 - sigma) * source
        assert torch.allclose(latents[outside], wanted[outside], atol=1e-5)


def test_several_pictures_of_several_edits_keep_their_own_sources(pipeline: GoTPipeline) -> None:
    chains = [CHAIN, parse("a blue square (500,500),(900,900)")]
    sources = [SOURCE, SOURCE.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    together = pipeline.draw(
        chains,
        ["one", "two"],
        sources,
        num_images_per_prompt=2,
        generator=[seeded(k) for k in range(4)],
        keep_outside=True,
    )
    for k, picture in enumerate(together):
        alone = pipeline.draw(
            chains[k // 2], ["one", "two"][k // 2], sources[k // 2], generator=seeded(k), keep_outside=True
        )
        assert abs(pixels([picture]) - pixels(alone)).max() <= 2


def test_a_chain_without_a_box_changes_the_whole_picture(pipeline: GoTPipeline) -> None:
    plain, kept = (
        pipeline.draw(parse("no box"), "edit", SOURCE, generator=seeded(), keep_outside=keep)
        for keep in (False, True)
    )
    assert (pixels(plain) == pixels(kept)).all()


# -- pictures drawn again with another plan -----------------------------------------------------------

PAIR = parse("a red circle (130,260),(240,490) and a blue square (600,600),(800,800)")
MOVED = parse("a red circle (130,510),(240,740) and a blue square (600,600),(800,800)")


@pytest.mark.parametrize(
    ("other", "boxes"),
    [
        (PAIR.to_data(), []),
        (MOVED.to_data(), [(130, 260, 240, 490), (130, 510, 240, 740)]),
        ("a red circle (130,260),(240,490)", [(600, 600, 800, 800)]),
        (PAIR.to_data().replace("blue", "green"), [(600, 600, 800, 800)] * 2),
        (f"{PAIR.to_data()} and a cat (0,0),(9,9)", [(0, 0, 9, 9)]),
        ("a blue square (600,600),(800,800) and a red circle (130,260),(240,490)", []),
    ],
)
def test_changed_boxes_are_those_of_one_plan_alone(other: str, boxes: list[tuple[int, ...]]) -> None:
    assert Earlier(SOURCE, PAIR).changed(parse(other)) == [Box(*one) for one in boxes]


@pytest.mark.parametrize("edit", [False, True])
def test_outside_of_the_changed_boxes_the_earlier_picture_stays(pipeline: GoTPipeline, edit: bool) -> None:
    image = SOURCE.transpose(Image.Transpose.ROTATE_90) if edit else None
    shared = {"image": image, "num_inference_steps": 3, "output_type": "latent"}
    earlier = Earlier(SOURCE, PAIR)
    kept, plain = (
        pipeline.draw(MOVED, "pair", generator=seeded(), earlier=given, keep_outside=edit, **shared)
        for given in ([earlier], None)
    )
    free = cells_of([earlier.changed(MOVED)], 64, 64, 8).expand_as(kept)
    assert free.any() and torch.allclose(kept[~free], source_latents(pipeline)[~free], atol=1e-5)
    assert not torch.allclose(kept[free], source_latents(pipeline)[free], atol=1e-2)
    assert not torch.allclose(plain[~free], kept[~free], atol=1e-2)


def test_each_prompt_has_an_earlier_picture_of_its_own_or_none(pipeline: GoTPipeline) -> None:
    chains, prompts = [MOVED, MOVED, PAIR], ["one", "two", "three"]
    upside_down = SOURCE.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    earlier = [Earlier(SOURCE, PAIR), None, Earlier(upside_down, MOVED)]
    together = pipeline.draw(chains, prompts, generator=[seeded(k) for k in range(3)], earlier=earlier)
    for k, picture in enumerate(together):
        alone = pipeline.draw(chains[k], prompts[k], generator=seeded(k), earlier=[earlier[k]])
        assert abs(pixels([picture]) - pixels(alone)).max() <= 2


def test_what_stays_of_a_picture_stays_to_the_pixel(pipeline: GoTPipeline) -> None:
    earlier = Earlier(SOURCE.convert("L"), PAIR)
    free = cells_of([earlier.changed(MOVED)], 64, 64, 1)[0, 0].numpy()
    grown = cells_of([earlier.changed(MOVED)], 64, 64, 8)[0, 0].numpy().repeat(8, 0).repeat(8, 1)
    for picture in pipeline.draw(MOVED, "pair", earlier=[earlier], num_images_per_prompt=2):
        made = np.asarray(picture)
        assert (made[~grown] == np.asarray(SOURCE)[~grown]).all()
        assert (made[free] != np.asarray(SOURCE)[free]).any()


def test_an_equal_plan_draws_everything_anew(pipeline: GoTPipeline) -> None:
    again, plain = (
        pipeline.draw(PAIR, "pair", generator=seeded(), earlier=given)
        for given in ([Earlier(SOURCE, PAIR)], None)
    )
    assert (pixels(again) == pixels(plain)).all()


def test_earlier_pictures_that_cannot_be_used_are_named(pipeline: GoTPipeline) -> None:
    with pytest.raises(ValueError, match="2 earlier pictures for 1 prompts"):
        pipeline.draw(PAIR, "pair", earlier=[None, None])
    with pytest.raises(TypeError, match=r"`earlier\[0\]` must be an Earlier or None, got Image"):
        pipeline.draw(PAIR, "pair", earlier=[SOURCE])
