"""Rows of downloads as samples: what is wrong with them is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.judged.samples import read_samples
from got_core.evaluate.judged.shape import Definition
from got_core.evaluate.published.registry import published_benchmark
from tests.got_core.evaluate.judged import made


def definition(name: str) -> Definition:
    return published_benchmark(name).opener.definition


def test_parquet_of_a_split(downloads: Path) -> None:
    samples = read_samples(definition("imagenhub"), downloads)
    assert [one.key for one in samples.all] == ["100_1", "100_2", "101_1", "101_2"]
    assert [one.cluster for one in samples.all] == ["100", "100", "101", "101"]
    assert samples.notes == ("4 samples; the published list has 179",) and not samples.published
    first = samples.all[0]
    assert samples.pictures.read([first.source])[first.source] == made.encoded(made.COLOURS[0])


def test_arrow_and_parquet_give_the_same_list(downloads: Path, tmp_path: Path) -> None:
    arrow = read_samples(definition("gedit/cn"), downloads)
    parquet = read_samples(definition("gedit/cn"), made.gedit(tmp_path, arrow=False))
    assert [one.fields for one in arrow.all] == [one.fields for one in parquet.all]
    for one, other in zip(arrow.all, parquet.all, strict=True):
        assert (
            arrow.pictures.read([one.source]).popitem()[1]
            == parquet.pictures.read([other.source]).popitem()[1]
        )
    assert arrow.all[0].place == "fullset/background_change/cn/cn0b"
    assert [one.sets for one in arrow.all] == [("intersection",), ()] * 2


def test_reason_edit_pairs_by_name(downloads: Path) -> None:
    samples = read_samples(definition("reason_edit"), downloads)
    first = samples.all[0]
    assert (first.key, first.task, first.place) == ("1-Left-Right/001", "1-Left-Right", "1-Left-Right/001")
    assert first.instruction == "Make thing 1 grey." and first.fields["clip_text"] == "a grey thing 1"
    assert first.pictures["mask"] == "reason_edit/1-Left-Right/001_mask.jpg"


def test_missing_parts_of_reason_edit_are_named(tmp_path: Path) -> None:
    folder = made.reason_edit(tmp_path, count=3) / "reason_edit"
    (folder / "1-Left-Right/002_mask.jpg").unlink()
    (folder / "2-Relative-Size/001.png").unlink()
    (folder / "3-Mirror/Mirror_text.txt").unlink()
    (folder / "4-Color").rename(folder / "4-Colour")
    with pytest.raises(BenchmarkDataError) as raised:
        read_samples(definition("reason_edit"), tmp_path)
    for part in (
        "pictures without a mask: 1 (1-Left-Right/002.png (002_mask.jpg is missing))",
        "masks without a picture: 1 (2-Relative-Size/001_mask.jpg)",
        "folders with another number of instructions than pictures: 1 (2-Relative-Size: 3 lines, 2 pictures)",
        "folders without one text file: 1 (3-Mirror: 0 files)",
        "folders that are missing: 1 (4-Color)",
    ):
        assert part in str(raised.value)
    part = read_samples(definition("reason_edit"), tmp_path, partial=True)
    assert len(part.all) == 2 + 3 + 3 and "folders that are missing" in " ".join(part.notes)


def test_faulty_rows_are_named_and_left_out_of_a_partial_score(tmp_path: Path) -> None:
    rows = {
        "1": {"id": "a/1.jpg", "prompt": "grey", "edit_type": "add"},
        "2": {"id": "a/2.jpg", "prompt": "grey", "edit_type": "add"},
        "3": {"id": "a/1.jpg", "prompt": " ", "edit_type": "add"},
        "4": {"id": "../../a/1.jpg", "prompt": "grey", "edit_type": "add"},
        "5": [],
        ".6": {"id": "a/1.jpg", "prompt": "grey", "edit_type": "add"},
        "7": {"prompt": "grey", "edit_type": "add"},
    }
    made.write(tmp_path / "ImgEdit/Benchmark/Basic/basic_edit.json", json.dumps(rows))
    made.write(tmp_path / "imgedit_pictures/a/1.jpg", made.encoded((1, 2, 3), kind="JPEG"))
    made.write(tmp_path / "a/1.jpg", b"outside")
    with pytest.raises(BenchmarkDataError) as raised:
        read_samples(definition("imgedit"), tmp_path)
    for part in (
        "missing pictures: 2 (basic_edit.json '2': a/2.jpg, basic_edit.json '4': ../../a/1.jpg)",
        "rows without instruction ({prompt}): 1 (basic_edit.json '3')",
        "rows that are no objects: 1 (basic_edit.json '5')",
        "rows with an id that names a hidden file: 1 (basic_edit.json '.6': .6)",
        "rows without a picture to edit: 1 (basic_edit.json '7')",
    ):
        assert part in str(raised.value)
    samples = read_samples(definition("imgedit"), tmp_path, partial=True)
    assert [one.key for one in samples.all] == ["1"]


def test_rows_that_repeat_an_id_and_rows_about_which_nothing_asks(tmp_path: Path) -> None:
    made.risebench(tmp_path)
    rows = [*made.RISE, made.RISE[0], {**made.RISE[3], "index": "logical_9", "reference_img": None}]
    path = made.write(tmp_path / "risebench/datav2_total_w_subtask.json", json.dumps(rows))
    for name in ("risebench", "risebench/published"):
        with pytest.raises(BenchmarkDataError, match=r"rows that repeat an id: 1 .*temporal_reasoning_1"):
            read_samples(definition(name), tmp_path)
    with pytest.raises(BenchmarkDataError, match=r"nothing asks for reasoning: 1 \(datav2_.* row 6\)"):
        read_samples(definition("risebench/published"), tmp_path)
    path.write_text("{")
    with pytest.raises(BenchmarkDataError, match="is not JSON"):
        read_samples(definition("risebench"), tmp_path)
    path.write_text("[]")
    with pytest.raises(BenchmarkDataError, match="no samples: 1"):
        read_samples(definition("risebench"), tmp_path, partial=True)


def test_what_each_sample_of_risebench_is_asked(downloads: Path) -> None:
    from got_core.evaluate.judged.samples import asked_about

    for name, wanted in (
        (
            "risebench",
            {
                "temporal_reasoning_1": ["consistency", "reasoning", "plausibility"],
                "causal_reasoning_1": ["reasoning", "plausibility"],
                "spatial_reasoning_1": ["consistency", "reasoning_picture", "plausibility"],
                "logical_reasoning_1": ["consistency", "reasoning_picture"],
                "logical_reasoning_2": ["consistency", "reasoning_txt"],
            },
        ),
        (
            "risebench/published",
            {
                "temporal_reasoning_1": ["consistency", "plausibility", "reasoning_temporal"],
                "causal_reasoning_1": ["plausibility", "reasoning_temporal_input"],
                "spatial_reasoning_1": [
                    *("consistency_spatial_picture", "reasoning_spatial_picture", "plausibility_spatial"),
                ],
                "logical_reasoning_1": ["reasoning_picture", "consistency_logical_picture"],
                "logical_reasoning_2": ["consistency_logical", "reasoning_logical"],
            },
        ),
    ):
        one = definition(name)
        samples = read_samples(one, downloads)
        found = {
            sample.key: [ask.name for ask in one.asks if asked_about(ask, sample)] for sample in samples.all
        }
        assert {key: set(names) for key, names in found.items()} == {k: set(v) for k, v in wanted.items()}
