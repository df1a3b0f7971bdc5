"""Pictures that hold NaN or infinity are told from the others, never shown as black ones."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.finite import NotFiniteError
from got_core.model.pipeline import GoTPipeline
from tests.got_core.model.test_pipeline import pixels, seeded
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

CHAINS = [parse(f"a red circle ({k}00,100),({k}50,400)") for k in range(1, 4)]
PROMPTS = ["a", "b", "c"]
SOURCES = [Image.new("RGB", (64, 32 * k), (200, 30, 30)) for k in (1, 2, 3)]


@pytest.fixture
def pipeline() -> GoTPipeline:
    return sees_its_conditions(tiny_pipeline())


def noise(pipeline: GoTPipeline, bad: float | None = None) -> torch.Tensor:
    """Initial noise of three pictures, of the second one with a bad number."""
    latents = torch.randn(pipeline._latent_shape(3, 64, 64), generator=seeded())
    if bad is not None:
        latents[1, 0, 3, 3] = bad
    return latents


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"image": SOURCES}, {"image": SOURCES, "keep_outside": True}],
    ids=["text", "edit", "kept"],
)
def test_the_other_pictures_of_a_batch_are_kept(pipeline: GoTPipeline, bad: float, arguments: dict) -> None:
    right = pipeline.draw(CHAINS, PROMPTS, latents=noise(pipeline), **arguments)
    with pytest.raises(
        NotFiniteError, match="1 of 3 pictures failed; picture 1: its latents hold NaN"
    ) as told:
        pipeline.draw(CHAINS, PROMPTS, latents=noise(pipeline, bad), **arguments)
    assert list(told.value.reasons) == [1]
    assert told.value.images[1] is None
    for number in (0, 2):
        assert told.value.images[number].size == right[number].size
        assert np.abs(pixels([told.value.images[number]]) - pixels([right[number]])).max() <= 1


@pytest.mark.parametrize("kind", ["pil", "np", "pt", "latent"])
def test_every_output_type_tells_it(pipeline: GoTPipeline, kind: str) -> None:
    right = pipeline.draw(CHAINS, PROMPTS, latents=noise(pipeline), output_type=kind)
    with pytest.raises(NotFiniteError) as told:
        pipeline.draw(CHAINS, PROMPTS, latents=noise(pipeline, float("nan")), output_type=kind)
    assert [image is None for image in told.value.images] == [False, True, False]
    kept, same = (np.asarray(images[2]) for images in (told.value.images, right))
    assert np.allclose(kept, same, atol=1 if kind == "pil" else 1e-4)


def test_a_network_whose_answer_is_nan_draws_nothing(pipeline: GoTPipeline) -> None:
    torch.nn.init.constant_(pipeline.unet.conv_out.bias, float("nan"))
    with pytest.raises(NotFiniteError, match="2 of 2 pictures failed"):
        pipeline("a red circle", num_images_per_prompt=2, generator=seeded())


def test_a_language_model_whose_states_are_nan_draws_nothing(pipeline: GoTPipeline) -> None:
    torch.nn.init.constant_(pipeline.projector.output_projector.bias, float("nan"))
    with pytest.raises(NotFiniteError, match="its latents hold NaN"):
        pipeline.draw(CHAINS[0], "a", generator=seeded())


def test_numbers_too_large_for_the_autoencoders_precision_are_told(pipeline: GoTPipeline) -> None:
    pipeline.vae.half()
    latents = noise(pipeline)
    latents[2] *= 1e6
    with (
        torch.no_grad(),
        pytest.raises(NotFiniteError, match=r"decoded to .*in float16.*bfloat16") as told,
    ):
        pipeline.decode(latents, "pil")
    assert list(told.value.reasons) == [2]
    assert [image is None for image in told.value.images] == [False, False, True]


def test_the_error_travels_between_processes() -> None:
    error = NotFiniteError({2: "why", 1: "because"}, ["a", None, None])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reasons, again.images) == (str(error), {1: "because", 2: "why"}, error.images)
