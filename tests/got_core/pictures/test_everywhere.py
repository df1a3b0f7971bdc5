"""The same bytes are the same pixels for training, annotation and drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from got_core.annotate.config import OpenAIConfig
from got_core.annotate.pictures import Picture
from got_core.chain.grammar import parse
from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import decode_image
from got_core.corpus.reader import ImageReader
from got_core.model.pipeline import GoTPipeline
from tests.got_core.pictures import awkward
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

FILES = awkward.files()


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    pipe = sees_its_conditions(tiny_pipeline())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipeline: GoTPipeline, image: Image.Image) -> np.ndarray:
    chain = parse("a red circle (100,100),(400,400) remove it")
    noise = torch.Generator().manual_seed(0)
    return np.asarray(pipeline.draw(chain, "remove it", image, num_inference_steps=1, generator=noise)[0])


@pytest.mark.parametrize("name", FILES)
def test_what_training_reads_is_what_annotators_see(name: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(FILES[name])
    read = ImageReader(tmp_path).open("picture")  # the one way of training, annotation, measuring, gallery
    assert read.tobytes() == decode_image(FILES[name], IngestConfig()).tobytes()
    assert Picture(read, OpenAIConfig(url="http://127.0.0.1:9/v1", vision_model="qwen2-vl")).image is read


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("turned")])
def test_a_picture_handed_to_the_pipeline_is_converted_alike(
    name: str, pipeline: GoTPipeline, tmp_path: Path
) -> None:
    (tmp_path / "picture").write_bytes(FILES[name])
    with Image.open(tmp_path / "picture") as opened:
        found = drawn(pipeline, opened)
    wanted = drawn(pipeline, decode_image(FILES[name], IngestConfig()))
    assert (found == wanted).all()
    assert (drawn(pipeline, Image.new("RGB", (64, 48), "navy")) != wanted).any(), "the source is looked at"
