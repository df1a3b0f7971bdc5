"""Edits by a model that was trained in aspect buckets: each in its source's, and given back in its aspect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.finite import NotFiniteError
from got_core.model.frames import frames_of
from got_core.model.options import DrawingOptions
from got_core.model.pipeline import GoTPipeline
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

CHAIN = parse("1. a cat (100,200),(300,400) 2. the cat, made blue. 3. done.")
WIDE, TALL, SQUARE = (
    Image.effect_noise(size, 60).convert("RGB") for size in ((150, 90), (90, 150), (70, 70))
)
"""In buckets of 64 x 64 pixels in steps of 16: 80x48, 48x80 and 64x64."""


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    made = sees_its_conditions(tiny_pipeline())
    made.register_to_config(edit_bucket_multiple=16)
    return made


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def shapes_drawn(pipeline: GoTPipeline, *sources: Image.Image | None, **options: object) -> list[list[int]]:
    """Shape of the latents in each call, sources being edited or, for None, pictures drawn from text."""
    found: list[list[int]] = []
    pipeline.draw(
        [CHAIN] * len(sources),
        ["x"] * len(sources),
        None if None in sources else list(sources),
        num_inference_steps=1,
        callback_on_step_end=lambda pipe, index, t, values: found.append(list(values["latents"].shape)),
        **options,
    )
    return found


def test_edits_are_drawn_in_their_sources_bucket_and_text_in_the_square(pipeline: GoTPipeline) -> None:
    assert shapes_drawn(pipeline, WIDE) == [[1, 8, 6, 10]]
    assert shapes_drawn(pipeline, TALL) == [[1, 8, 10, 6]]
    assert shapes_drawn(pipeline, None) == [[1, 8, 8, 8]]
    assert shapes_drawn(pipeline, WIDE, height=64, width=32) == [[1, 8, 8, 4]]
    assert shapes_drawn(pipeline, WIDE, TALL, SQUARE, WIDE) == [[2, 8, 6, 10], [1, 8, 10, 6], [1, 8, 8, 8]]
    assert shapes_drawn(tiny_pipeline(), WIDE, TALL) == [[2, 8, 8, 8]]


def test_pictures_have_their_sources_aspect_and_order(pipeline: GoTPipeline) -> None:
    sources = [WIDE, TALL, SQUARE, WIDE]
    images = pipeline.draw([CHAIN] * 4, ["x"] * 4, sources, num_images_per_prompt=2)
    sizes = [(80, 48), (48, 80), (64, 64), (80, 48)]
    assert [image.size for image in images] == [size for size in sizes for _ in range(2)]
    # A source whose aspect is nearly a bucket's: the picture has the source's, not the bucket's.
    (image,) = pipeline.draw(CHAIN, "x", Image.new("RGB", (300, 200)))
    assert image.size == (72, 48)


def test_a_mixed_call_draws_what_single_calls_draw(pipeline: GoTPipeline) -> None:
    sources, prompts = [WIDE, SQUARE, TALL, WIDE], ["a", "b", "c", "d"]
    together = pipeline.draw(
        [CHAIN] * 4, prompts, sources, num_images_per_prompt=2, generator=seeds(*range(8))
    )
    for number, (prompt, source) in enumerate(zip(prompts, sources, strict=True)):
        alone = pipeline.draw(
            CHAIN, prompt, source, num_images_per_prompt=2, generator=seeds(2 * number, 2 * number + 1)
        )
        for found, expected in zip(together[2 * number : 2 * number + 2], alone, strict=True):
            assert np.abs(np.asarray(found, dtype=int) - np.asarray(expected)).max() <= 1


@torch.no_grad()
def test_what_is_outside_of_the_boxes_stays_in_the_buckets_frame(pipeline: GoTPipeline) -> None:
    flat = Image.new("RGB", (160, 96), (180, 90, 30))
    kept, source = (
        np.asarray(image.resize((160, 96)), dtype=int)
        for image in (
            pipeline.draw(CHAIN, "x", flat, keep_outside=True, generator=seeds(0))[0],
            pipeline.decode(pipeline.encode_conditions([CHAIN], ["x"], [flat], 48, 80).reference, "pil")[0],
        )
    )
    difference = np.abs(kept - source).max(axis=2)
    assert difference[:, 80:].max() <= 2, "the right half is outside of the cat's box"
    assert difference[30:40, 20:45].max() > 2, "the cat is drawn"


def test_rounds_stay_in_one_bucket_and_size(pipeline: GoTPipeline) -> None:
    source = Image.new("RGB", (151, 97))
    rounds = pipeline.edit_rounds(source, ["a", "b", "c"], num_inference_steps=1)
    sizes = [output.images[0].size for output in rounds]
    assert sizes == [(75, 48)] * 3


@pytest.mark.parametrize("kind", ["np", "pt", "latent"])
def test_tensors_are_of_one_size(pipeline: GoTPipeline, kind: str) -> None:
    message = f"call for pictures of 48x80, 80x48, and `output_type` '{kind}' is one tensor"
    with pytest.raises(ValueError, match=message):
        pipeline.draw([CHAIN] * 2, ["a", "b"], [WIDE, TALL], output_type=kind)
    assert len(pipeline.draw([CHAIN] * 2, ["a", "b"], [WIDE, WIDE], output_type=kind)) == 2
    both = pipeline.draw([CHAIN] * 2, ["a", "b"], [WIDE, TALL], output_type=kind, height=64)
    assert len(both) == 2


def test_given_noise_has_the_buckets_shape(pipeline: GoTPipeline) -> None:
    noise = torch.zeros(1, 8, 6, 10)
    pipeline.draw(CHAIN, "x", WIDE, latents=noise, num_inference_steps=1)
    with pytest.raises(ValueError, match=r"`latents` must have shape \(1, 8, 10, 6\)"):
        pipeline.draw(CHAIN, "x", TALL, latents=noise)
    with pytest.raises(ValueError, match="and `latents` is one tensor"):
        pipeline.draw([CHAIN] * 2, ["a", "b"], [WIDE, TALL], latents=torch.zeros(2, 8, 6, 10))


def test_a_picture_that_fails_is_told_from_those_of_other_sizes(
    pipeline: GoTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = pipeline.decode

    def failing(latents: torch.Tensor, *arguments: object) -> object:
        if latents.shape[-1] == 6:
            latents = latents.clone()
            latents[-1] = float("nan")
        return decode(latents, *arguments)

    monkeypatch.setattr(pipeline, "decode", failing)
    with pytest.raises(NotFiniteError) as caught:
        pipeline.draw([CHAIN] * 4, ["x"] * 4, [TALL, WIDE, TALL, SQUARE], num_inference_steps=1)
    assert list(caught.value.reasons) == [2]
    sizes = [image and image.size for image in caught.value.images]
    assert sizes == [(48, 80), (80, 48), None, (64, 64)]


def test_a_saved_pipeline_knows_its_buckets_and_an_older_one_has_none(
    pipeline: GoTPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    again = GoTPipeline.from_pretrained(tmp_path)
    assert again.config.edit_bucket_multiple == 16
    index = tmp_path / "model_index.json"
    stored = json.loads(index.read_text())
    assert stored.pop("edit_bucket_multiple") == 16
    index.write_text(json.dumps(stored))
    older = GoTPipeline.from_pretrained(tmp_path)
    assert older.config.edit_bucket_multiple is None
    assert frames_of(older.config, 1, [WIDE], DrawingOptions()) == [(64, 64)]
