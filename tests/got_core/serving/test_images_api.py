"""OpenAI's own client against the server: pictures, edits, streams, and its own exceptions."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from got_core.corpus.decode import decode_image
from got_core.registry.picture_file import read_note
from got_core.registry.request import PictureLimits
from got_core.registry.rows import redrawn
from tests.got_core.pictures.awkward import encode, halves
from tests.got_core.serving.served import Served, served

openai = pytest.importorskip("openai")

PROMPT = "a photo of a red circle"


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def data_of(picture: Any) -> bytes:
    return base64.b64decode(picture.b64_json)


def test_a_picture_is_what_the_pipeline_draws_and_can_be_drawn_again(client: Any, pipeline: Any) -> None:
    answer = client.images.generate(prompt=PROMPT, model="gpt-image-1", n=2, extra_body={"seed": 5})
    assert (answer.size, answer.output_format, len(answer.data)) == ("64x64", "png", 2)
    made = pipeline(PROMPT, generator=torch.Generator().manual_seed(5), num_images_per_prompt=1)
    for seed, one in zip((5, 6), answer.data, strict=True):
        note = read_note(data_of(one))
        assert (note.seed, note.prompt, one.seed) == (seed, PROMPT, seed)
        assert redrawn(pipeline, note).tobytes() == Image.open(io.BytesIO(data_of(one))).tobytes()
    assert (answer.data[0].revised_prompt or "") == made.chains[0].to_data()
    again = client.images.generate(prompt=PROMPT)
    assert data_of(again.data[0]) != data_of(client.images.generate(prompt=PROMPT).data[0]), "other seeds"


def test_sizes_and_formats(client: Any) -> None:
    for kind, shown in (("jpeg", "JPEG"), ("webp", "WEBP")):
        answer = client.images.generate(
            prompt=PROMPT, size="64x64", output_format=kind, output_compression=70
        )
        assert Image.open(io.BytesIO(data_of(answer.data[0]))).format == shown
    linked = client.images.generate(prompt=PROMPT, response_format="url").data[0].url
    assert linked.startswith("data:image/png;base64,")
    with pytest.raises(openai.BadRequestError, match="auto or one of 64x64") as refused:
        client.images.generate(prompt=PROMPT, size="1024x1024")
    assert refused.value.param == "size" and refused.value.type == "invalid_request_error"


def test_an_edit(client: Any, pipeline: Any, tmp_path: Path) -> None:
    file = tmp_path / "scene.png"
    file.write_bytes(encode(halves(size=(96, 64)), "PNG"))
    answer = client.images.edit(image=file, prompt="remove it", extra_body={"seed": 3, "keep_outside": True})
    picture = Image.open(io.BytesIO(data_of(answer.data[0])))
    source = decode_image(file.read_bytes(), PictureLimits())
    assert picture.size == (96, 64)
    assert redrawn(pipeline, read_note(data_of(answer.data[0])), source).tobytes() == picture.tobytes()
    listed = client.images.edit(image=[file], prompt="remove it", n=2)
    assert len(listed.data) == 2, "clients send lists under another name"
    with pytest.raises(openai.BadRequestError, match="`image` must be one picture, got 2"):
        client.images.edit(image=[file, file], prompt="remove it")
    with pytest.raises(openai.BadRequestError, match="`mask` is not supported") as refused:
        client.images.edit(image=file, mask=file, prompt="remove it")
    assert refused.value.param == "mask"
    with pytest.raises(openai.BadRequestError, match="not_an_image"):
        client.images.edit(image=("x.png", b"words"), prompt="remove it")


def test_streams(client: Any) -> None:
    events = list(client.images.generate(prompt=PROMPT, n=2, stream=True))
    assert [one.type for one in events] == ["image_generation.completed"] * 2
    assert Image.open(io.BytesIO(base64.b64decode(events[0].b64_json))).size == (64, 64)
    (edited,) = client.images.edit(image=("a.png", encode(halves(), "PNG")), prompt="remove it", stream=True)
    assert edited.type == "image_edit.completed"


def test_errors_are_the_clients_own(client: Any, server: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="is not served here") as missing:
        client.images.generate(prompt=PROMPT, model="dall-e-2")
    assert missing.value.code == "model_not_found"
    assert [one.id for one in client.models.list()] == ["pipeline", "got", "gpt-image-1", "dall-e-3"]
    for options, named in (
        ({"n": 11}, "n"),
        ({"prompt": " "}, "prompt"),
        ({"background": "transparent"}, "background"),
        ({"partial_images": 2}, "partial_images"),
        ({"extra_body": {"num_inference_steps": 10**9}}, "num_inference_steps"),
        ({"extra_body": {"chain": "x"}}, "chain"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(**{"prompt": PROMPT, **options})
        assert refused.value.param == named
    with pytest.raises(openai.APIStatusError) as large:
        client.images.generate(prompt=PROMPT, user="x" * (2 << 20))
    assert large.value.status_code == 413


def test_a_token_is_asked_for(folder: Path) -> None:
    with served(str(folder), token="long-enough", host="0.0.0.0") as server:
        for token, status in (("wrong", 401), ("long-enoughx", 401), ("long-enough", 200)):
            headers = {"Authorization": f"Bearer {token}"}
            assert server.raw("/v1/models", headers=headers)[0] == status
            assert server.raw("/metrics", headers=headers)[0] == status
        assert server.raw("/v1/models")[0] == 401 and server.raw("/ready")[0] == 200
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError),
        ):
            stranger.images.generate(prompt=PROMPT)
