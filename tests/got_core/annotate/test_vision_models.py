"""Units of boxes and sizes of pictures by model: what is sent, the processor of the model leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from got_core.annotate.config import OpenAIConfig
from got_core.annotate.pictures import Picture, size_sent
from got_core.annotate.vision_models import known_model


def config(model: str, **settings: object) -> OpenAIConfig:
    return OpenAIConfig(url="http://127.0.0.1/v1", vision_model=model, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("Qwen/Qwen2-VL-7B-Instruct", "thousandths", 28),
        ("Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "pixels", 28),
        ("/models/qwen2_5-vl-72b", "pixels", 28),
        ("qwen2.5vl:7b", "pixels", 28),
        ("Qwen/Qwen3-VL-8B-Instruct", "thousandths", 32),
        ("org/Qwen3-VL-30B-A3B-Instruct-FP8", "thousandths", 32),
    ],
)
def test_families_by_name(name: str, unit: str, factor: int) -> None:
    vision = config(name).vision
    assert (vision.box_unit, vision.factor) == (unit, factor)


def test_an_unknown_name_is_an_error_that_says_what_to_set() -> None:
    assert known_model("my-vlm") is None
    with pytest.raises(ValueError, match="GOT_ANNOTATOR_BOX_UNIT"):
        config("my-vlm")
    with pytest.raises(ValueError, match="GOT_ANNOTATOR_IMAGE_FACTOR"):
        config("my-vlm", box_unit="pixels")
    assert config("my-vlm", box_unit="pixels", image_factor=32).vision.factor == 32
    assert config("Qwen/Qwen2.5-VL-3B", box_unit="thousandths").vision.box_unit == "thousandths"


@pytest.mark.parametrize("model", ["qwen2-vl", "qwen2.5-vl", "qwen3-vl"])
@pytest.mark.parametrize("side", [448, 1024, 2048])
def test_the_processor_leaves_what_is_sent_as_it_is(model: str, side: int) -> None:
    settings = config(model, image_side=side)
    vision = settings.vision
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (56, 56), (640, 480), (4000, 30), (30, 4000), (70, 98), (1021, 1023), (8000, 8000)]
    sizes += [tuple(int(2**power) for power in rng.uniform(0, 13, 2)) for _ in range(300)]
    for width, height in sizes:
        wide, high = size_sent(width, height, settings)
        limits = {"min_pixels": vision.min_pixels, "max_pixels": vision.max_pixels}
        assert smart_resize(high, wide, factor=vision.factor, **limits) == (high, wide), (width, height)
        assert max(wide, high) <= side


def test_a_real_processor_makes_as_many_patches_as_were_sent() -> None:
    picture = Picture(Image.new("RGB", (333, 217), "red"), config("qwen2.5-vl"))
    wide, high = picture.size
    processor = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
    grid = processor(Image.new("RGB", (wide, high)))["image_grid_thw"][0]
    assert [int(n) for n in grid] == [1, high // 14, wide // 14]
