"""The official folder: found in any spelling of its names, and everything wrong with it named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from got_core.evaluate.geneval.layout import LayoutError, drawing_fault, read_layout
from got_core.evaluate.geneval.prompts import Samples, read_samples
from got_core.storage import Storage
from tests.got_core.evaluate.geneval.lists import png, write_folder, write_list


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return read_samples(write_list(tmp_path / "list.jsonl"), 2)


@pytest.fixture
def storage(tmp_path: Path, samples: Samples) -> Storage:
    storage = Storage(f"file://{tmp_path / 'pictures'}")
    write_folder(storage, samples)
    return storage


def test_a_whole_folder(samples: Samples, storage: Storage) -> None:
    storage.write_bytes("00000/samples/.00001.png.ab12cd34ef56.partial", b"killed")
    pictures = read_layout(samples, storage)
    assert list(pictures.found) == [one.id for one in samples.all] and not pictures.problems
    assert pictures.image("00003-00001").size == (32, 32)
    assert pictures.found["00003-00001"].name == "00003/samples/00001.png"
    storage.write_bytes("00003/samples/00001.png", png(99))
    with pytest.raises(LayoutError, match=r"00003/samples/00001\.png has changed since"):
        pictures.image("00003-00001")


def test_hidden_files_are_passed_over(samples: Samples, storage: Storage) -> None:
    for name in (".DS_Store", "00000/.DS_Store", "00000/samples/._00000.png", ".cache/a/b.json"):
        storage.write_bytes(name, b"left by a file browser")
    assert len(read_layout(samples, storage).found) == 12


def test_names_of_other_widths_and_pictures_counted_from_one(samples: Samples, tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path / 'others'}")
    for number, row in enumerate(samples.rows):
        storage.write_bytes(f"{number}/metadata.jsonl", json.dumps(row, indent=1).encode())
        for image in (1, 2):
            storage.write_bytes(f"{number}/samples/{image:04d}.png", png(image))
    pictures = read_layout(samples, storage)
    assert len(pictures.found) == 12
    assert pictures.found["00005-00000"].name == "5/samples/0001.png"


@pytest.mark.parametrize(
    ("name", "data", "what", "lost"),
    [
        ("00001/samples/00001.png", None, "is missing ('a photo of a cup and a dog')", 1),
        ("00001/metadata.jsonl", None, "is missing: nothing says which prompt", 2),
        ("00001/metadata.jsonl", b"{", "is not JSON (", 2),
        (
            "00001/metadata.jsonl",
            b'{"prompt": "a cat"}',
            "asks for 'a cat'; the list has 'a photo of a cup",
            2,
        ),
        ("00001/samples/00002.png", png(5), "is one too many: the protocol takes 2 pictures", 0),
        ("00001/samples/000000.png", png(5), "is picture 0 a second time, after samples/00000.png", 0),
        ("00001/samples/notes.txt", b"x", "is not of the layout", 0),
        ("00001/samples/00001.jpg", b"x", "is not of the layout", 0),
        ("results.jsonl", b"x", "is not of the layout", 0),
        ("00006/samples/00000.png", png(5), "is not of the layout (00000/ to 00005/)", 0),
        ("1/metadata.jsonl", b"x", "is the folder of prompt 1 already", None),
        ("00001/samples/00001.png", png(5, (32, 48)), "is 32x48 pixels, most are 32x32", 1),
        ("00001/samples/00001.png", png(5)[:-40], "cannot be read (truncated", 1),
        ("00001/samples/00001.png", b"", "cannot be read (empty_file", 1),
        ("00001/samples/00001.png", png(5, kind="JPEG"), "cannot be read (unsupported_format", 1),
    ],
)
def test_what_is_wrong_is_named_and_refused_or_left_out(
    samples: Samples, storage: Storage, name: str, data: bytes | None, what: str, lost: int | None
) -> None:
    storage.write_bytes(name, data) if data is not None else storage.delete(name)
    with pytest.raises(LayoutError) as caught:
        read_layout(samples, storage)
    assert f"{name}: {what}" in str(caught.value) or (lost is None and what in str(caught.value))
    assert "ask for a partial score" in str(caught.value)
    pictures = read_layout(samples, storage, partial=True)
    assert pictures.problems
    if lost is not None:
        assert len(pictures.found) == 12 - lost and len(pictures.problems) == 1


def test_a_size_that_was_asked_for(samples: Samples, storage: Storage) -> None:
    with pytest.raises(
        LayoutError, match=r"12 problems:\n.*is 32x32 pixels, asked for are 64x64(.|\n)*and 2 more"
    ):
        read_layout(samples, storage, size=(64, 64))


def test_an_empty_folder(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"list\.jsonl is a file; name the folder of the pictures"):
        read_layout(samples, Storage(f"file://{tmp_path / 'list.jsonl'}"), partial=True)
    nothing = Storage(f"file://{tmp_path / 'nothing'}")
    with pytest.raises(LayoutError, match=r"nothing holds no pictures: name the folder"):
        read_layout(samples, nothing, partial=True)
    nothing.write_bytes(".got/drawn.json", b"{}")
    with pytest.raises(LayoutError, match=r"nothing holds no pictures: name the folder"):
        read_layout(samples, nothing)


def test_who_drew_a_picture_where_the_record_names_the_weights() -> None:
    own = {"key": "0123456789ab", "weights_hash": "aa", "fault": None}
    for record, fault in (
        (own, None),
        ({**own, "weights_hash": "bb"}, "was drawn by other weights (bb), and the folder's record names aa"),
        ({**own, "fault": "NaN"}, "is an empty picture: NaN"),
        ({"key": "0123456789ab"}, None),  # drawn before weights were noted
        ({}, "was not drawn by this project, and the folder's record names aa"),
    ):
        data = _noted(record)
        assert drawing_fault(data, "aa") == fault
        assert drawing_fault(data) == (fault if record.get("fault") else None)
    assert "not drawn by this project" in str(drawing_fault(png(1, kind="JPEG"), "aa"))
    assert drawing_fault(b"damaged", "aa") is None


def _noted(record: dict[str, Any]) -> bytes:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("got", json.dumps(record))
    Image.new("RGB", (8, 8)).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()
