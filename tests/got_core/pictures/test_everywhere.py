"""The same bytes are the same pixels for training, annotation and drawing."""

from __future__ import annotations

import io
import struct
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
from got_core.pictures.colours import to_rgb
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


@pytest.mark.parametrize(
    ("bits", "colour", "key"),
    [(1, 0, (1,)), (2, 0, (1,)), (4, 0, (5,)), (8, 0, (85,)), (8, 2, (85, 170, 0)), (16, 2, (4660, 0, 7))],
)
def test_a_transparent_level_is_found_by_the_pipeline_at_any_depth(
    bits: int, colour: int, key: tuple[int, ...]
) -> None:
    other = tuple(2**bits - 1 - level for level in key)
    row = "".join(f"{level:0{bits}b}" for level in (*key * 16, *other * 16))
    data = awkward.png(
        bits, colour, [int(row, 2).to_bytes(len(row) // 8, "big")] * 32, 32,
        tRNS=struct.pack(f">{len(key)}H", *key),
    )  # fmt: skip
    ingested, opened = decode_image(data, IngestConfig()), Image.open(io.BytesIO(data))
    assert ingested.getpixel((0, 0)) == (255, 255, 255) != ingested.getpixel((31, 0))
    for _ in range(2):
        assert to_rgb(opened).tobytes() == ingested.tobytes()
    if colour == 2:
        loaded = Image.open(io.BytesIO(data)).copy()
        assert to_rgb(loaded).tobytes() == ingested.tobytes()
