"""Reason-Edit's folder: pairs by name, lines by order, and all that may be wrong with a download."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.outside.reason_edit_data import TEXTS, read_reason_edit
from tests.got_core.evaluate.outside.reason_edit_set import reason_edit_set


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return reason_edit_set(tmp_path, each=3)


def test_samples(data: Path) -> None:
    samples = read_reason_edit(data)
    assert len(samples.samples) == 18 and {one.task for one in samples.samples} == set(TEXTS)
    assert samples.notes == (f"{data} has 18 samples, the published data 219",)
    keys = [one.key for one in samples.samples[:3]]
    assert keys == ["1-Left-Right/1", "1-Left-Right/10", "1-Left-Right/2"], "in the order of file names"
    ten = samples.samples[1]
    assert ten.instruction == "change 10.png of 1-Left-Right" and ten.output_caption == "a thing 10.png"
    assert ten.mask and ten.mask.endswith("1-Left-Right/10_mask.jpg"), "the mask is found by name"
    assert ten.settings == ("all", "understanding")
    assert samples.samples[-1].settings == ("all", "reasoning")
    files = samples.pictures.read([ten.source, ten.mask])
    assert files[ten.source][:4] == b"\x89PNG" and files[ten.mask][:2] == b"\xff\xd8"


def test_hidden_files_and_another_name_of_the_text(data: Path) -> None:
    place = data / "ReasonEdit_benchmark/4-Color"
    (place / "Color_text.txt").rename(place / "prompts.txt")
    (place / ".DS_Store").write_bytes(b"x")
    (data / "__MACOSX/4-Color").mkdir(parents=True)
    (data / "__MACOSX/4-Color/._1.png").write_bytes(b"x")
    assert read_reason_edit(data).sha256() == read_reason_edit(data).sha256()
    assert len(read_reason_edit(data).samples) == 18


def spoil(place: Path, what: str) -> None:
    if what == "mask":
        (place / "10_mask.jpg").unlink()
    elif what == "picture":
        (place / "10.png").unlink()
    elif what == "line":
        (place / "Color_text.txt").write_text("one CLIP: two\n")
    elif what == "caption":
        (place / "Color_text.txt").write_text("a CLIP: b\nc\nd CLIP: e\n\n")
    elif what == "text":
        (place / "Color_text.txt").unlink()
    elif what == "category":
        shutil.rmtree(place)
    else:
        shutil.copytree(place, place.parent / "copy/4-Color")


@pytest.mark.parametrize(
    ("what", "says", "left"),
    [
        ("mask", r"pictures without a mask: 1 \(.*4-Color/10.png\)", 17),
        ("picture", r"masks of no picture: 1 .*texts of another length: 1 \(.*2 pictures, 3 lines", 15),
        ("line", r"texts of another length: 1 \(.*4-Color: 3 pictures, 1 lines\)", 15),
        ("caption", r"lines without `instruction CLIP: caption`: 1 \(.*4-Color, line 2\)", 17),
        ("text", "categories without their text: 1 .*Color_text.txt", 15),
        ("category", r"missing categories: 1 \(4-Color\)", 15),
        ("twice", r"categories that are there more than once: 2 \(", 15),
    ],
)
def test_faults_are_named_or_left_out(data: Path, what: str, says: str, left: int) -> None:
    spoil(data / "ReasonEdit_benchmark/4-Color", what)
    with pytest.raises(BenchmarkDataError, match=says):
        read_reason_edit(data)
    partial = read_reason_edit(data, partial=True)
    assert len(partial.samples) == left and len(partial.notes) >= 2


def test_a_text_that_is_no_utf8(data: Path) -> None:
    (data / "ReasonEdit_benchmark/4-Color/Color_text.txt").write_bytes(b"\xff\xfe CLIP: x")
    with pytest.raises(BenchmarkDataError, match=r"Color_text.txt is no UTF-8"):
        read_reason_edit(data)


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkDataError, match=r"missing categories: 6 .*no samples"):
        read_reason_edit(tmp_path)
