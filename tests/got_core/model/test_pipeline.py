"""The diffusers pipeline: planning, drawing, checks, and saving."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.pipeline import GoTPipeline
from tests.got_core.tiny_pipeline import tiny_pipeline

CHAIN = parse("a red circle (100,100),(400,400)")
SOURCE = Image.new("RGB", (64, 64), (200, 30, 30))


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    return tiny_pipeline()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.int16) for image in images])


def test_one_call_plans_and_draws_for_text_and_for_edits(pipeline: GoTPipeline) -> None:
    drawn = pipeline(["a red circle", "two cats"], num_images_per_prompt=2, generator=seeded())
    edited = pipeline("make it blue", image=SOURCE, generator=seeded())
    assert [image.size for image in drawn.images] == [(64, 64)] * 4
    assert len(drawn.chains) == 4
    assert drawn.chains[0] == drawn.chains[1]
    assert len(edited.images) == 1


def test_drawing_from_the_planned_chain_gives_the_same_picture(pipeline: GoTPipeline) -> None:
    whole = pipeline("a red circle", generator=seeded())
    again = pipeline.draw(pipeline.plan("a red circle"), "a red circle", generator=seeded())
    assert (pixels(whole.images) == pixels(again)).all()


def test_the_chain_and_the_source_change_the_picture(pipeline: GoTPipeline) -> None:
    moved = parse("a red circle (500,500),(800,800)")
    first, second = (
        pipeline.draw(chain, "a red circle", generator=seeded(), output_type="pt") for chain in (CHAIN, moved)
    )
    edit = pipeline.draw(CHAIN, "a red circle", image=SOURCE, generator=seeded(), output_type="pt")
    other = pipeline.draw(
        CHAIN, "a red circle", image=Image.new("RGB", (64, 64)), generator=seeded(), output_type="pt"
    )
    assert not torch.equal(first, second)
    assert not torch.equal(edit, other)


def test_a_batch_draws_what_single_calls_draw(pipeline: GoTPipeline) -> None:
    chains = [CHAIN, parse("a cat (1,2),(300,400) and a dog (500,600),(700,800)"), parse("no box at all")]
    prompts = ["one", "a longer prompt than that", "three"]
    noise = pipeline.prepare_latents(3, 64, 64, seeded(3))
    together = pipeline.draw(chains, prompts, latents=noise)
    alone = [
        pipeline.draw(chain, prompt, latents=noise[k : k + 1])[0]
        for k, (chain, prompt) in enumerate(zip(chains, prompts, strict=True))
    ]
    assert np.abs(pixels(together) - pixels(alone)).max() <= 2


def test_the_callback_sees_every_step_and_may_change_the_latents(pipeline: GoTPipeline) -> None:
    seen = []

    def callback(_: object, index: int, t: torch.Tensor, values: dict) -> dict:
        seen.append(index)
        return {"latents": torch.zeros_like(values["latents"])}

    latents = pipeline.draw(
        CHAIN, "x", num_inference_steps=3, callback_on_step_end=callback, output_type="latent"
    )
    assert seen == [0, 1, 2]
    assert not latents.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": []}, "empty"),
        ({"prompt": ["fine", " "]}, r"prompt\[1\]"),
        ({"prompt": "x", "image": [SOURCE, SOURCE]}, "2 source images for 1 prompts"),
        ({"prompt": "x", "height": 65}, "multiples of 8"),
        ({"prompt": "x", "num_inference_steps": -1}, "at least 1"),
        ({"prompt": "x", "output_type": "jpeg"}, "output_type"),
        ({"prompt": "x", "num_images_per_prompt": 0}, "num_images_per_prompt"),
    ],
)
def test_bad_arguments_are_named(pipeline: GoTPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(**arguments)


def test_a_source_must_be_a_picture(pipeline: GoTPipeline) -> None:
    with pytest.raises(TypeError, match=r"image\[0\]"):
        pipeline("x", image=np.zeros((8, 8, 3)))


@pytest.mark.slow
def test_saved_pipelines_draw_the_same_in_a_fresh_process(pipeline: GoTPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    pipeline.save_pretrained(folder, safe_serialization=True)
    before = pipeline("a red circle", generator=seeded())
    script = (
        "import sys, torch\n"
        "from got_core.model.pipeline import GoTPipeline\n"
        "pipe = GoTPipeline.from_pretrained(sys.argv[1])\n"
        "pipe('a red circle', generator=torch.Generator().manual_seed(0)).images[0].save(sys.argv[2])\n"
    )
    picture = tmp_path / "picture.png"
    subprocess.run([sys.executable, "-c", script, str(folder), str(picture)], check=True)
    assert (pixels([Image.open(picture)]) == pixels(before.images)).all()
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


def test_module_paths_in_saved_pipelines_are_a_file_format(pipeline: GoTPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "GoTPipeline"
    assert index["vae"] == ["got_core.model.autoencoder", "PatchAutoencoder"]
    assert index["projector"] == ["got_core.model.guidance", "GuidanceProjector"]
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["mllm"] == ["transformers", "Qwen2_5_VLForConditionalGeneration"]
