"""How a folder of pictures says what drew them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from got_core.evaluate.picture_record import (
    COSTS,
    RECORD,
    OtherPicturesError,
    PictureRecord,
    begin_record,
    read_record,
)
from got_core.model.config import GuidanceReuse
from got_core.storage import Storage

ONE = PictureRecord(
    pictures_of="published/geneval",
    model="models:/got/3",
    weights_hash="0" * 64,
    plan=True,
    sampler={"num_inference_steps": 2, "guidance_reuse": GuidanceReuse(every=2)},
)


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}")


def test_a_record_is_read_as_it_was_written(folder: Storage) -> None:
    assert read_record(folder) is None
    begin_record(folder, ONE)
    begin_record(folder, dataclasses.replace(ONE, model="models:/got/7"))  # the same weights by another name
    assert read_record(folder) == ONE
    assert ONE.sampler["guidance_reuse"] == {"interval": [0.0, 1.0], "every": 2}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"plan": False}, "plan is True, now False"),
        ({"weights_hash": "1" * 64}, "weights_hash"),
        ({"sampler": {"num_inference_steps": 3}}, "sampler"),
        ({"pictures_of": "published/emu_edit"}, "pictures_of"),
        ({"dtype": "bfloat16"}, "dtype is None, now 'bfloat16'"),
    ],
)
def test_another_run_takes_another_folder(folder: Storage, changed: dict, named: str) -> None:
    begin_record(folder, ONE)
    folder.write_bytes("00000/samples/00000.png", b"picture")
    with pytest.raises(OtherPicturesError, match=f"models:/got/3.*{named}.*take an empty folder"):
        begin_record(folder, dataclasses.replace(ONE, **changed))
    assert read_record(folder) == ONE


def test_a_run_that_drew_nothing_leaves_the_folder_free(folder: Storage) -> None:
    begin_record(folder, ONE)
    folder.write_json(f"{COSTS}/1.json", {})
    folder.write_json("00000/metadata.jsonl", {})  # the first batch did not fit into memory
    other = dataclasses.replace(ONE, plan=False)
    begin_record(folder, other, figures={"ceiling": 1.0})
    found = read_record(folder)
    assert found and not found.plan and found.figures == {"ceiling": 1.0}
    assert folder.list() == [RECORD, "00000/metadata.jsonl"], "costs of the other run are gone"
    folder.delete("00000")
    folder.delete(RECORD)
    folder.write_bytes("a.png", b"")
    with pytest.raises(OtherPicturesError, match=r"holds a\.png and nothing that says how"):
        begin_record(folder, ONE)
    with pytest.raises(NotADirectoryError, match=r"a\.png is a file: name a folder"):
        begin_record(Storage(folder.url_of("a.png")), ONE)


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"plan": 1}'])
def test_a_damaged_record_is_named(folder: Storage, data: bytes) -> None:
    folder.write_bytes(RECORD, data)
    with pytest.raises(ValueError, match="does not say how the pictures were drawn"):
        read_record(folder)
