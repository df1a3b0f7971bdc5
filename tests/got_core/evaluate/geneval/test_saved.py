"""Saved detections: both formats, every fault named, and scoring without a network or pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.config import GenEvalConfig
from got_core.evaluate.geneval.detections import Asked, DetectorRecord
from got_core.evaluate.geneval.judging import _no_picture
from got_core.evaluate.geneval.saved import SavedDetections, SavedDetectionsError, write_detections
from got_core.evaluate.protocol import Network, why_unlike
from got_core.evaluate.scores import IncompleteRunError
from got_core.planning.geneval import DEFAULT_RULES
from tests.got_core.evaluate.geneval.lists import write_list

HEADER = {"detector": {"name": "mmdet mask2former_swin-s", "version": "2.28"}}


def found(cls: str, x: float = 0, color: str | None = None, score: float = 0.95) -> dict[str, Any]:
    return {"class": cls, "score": score, "box": [x, 0, x + 50, 50], "color": color}


RIGHT: list[list[dict[str, Any]]] = [
    [found("dog")],
    [found("dog"), found("cup", 200)],
    [found("bench"), found("bench", 200), found("bench", 300, score=0.9)],
    [found("clock", color="red")],
    [found("cup"), found("dog", 200)],
    [found("cup", color="blue"), found("remote", 100, color="white")],
]
"""What makes each prompt's picture right."""

WRONG: list[list[dict[str, Any]]] = [
    [found("dog", score=0.3)],
    [found("dog")],
    [found("bench"), found("bench", 200), found("bench", 300)],
    [found("clock", color="blue")],
    [found("cup", 200), found("dog")],
    [found("cup", color="blue"), found("remote", 100, color="black")],
]


def rows(right: int = 1) -> list[dict[str, Any]]:
    """Two pictures a prompt, of which so many are right."""
    return [
        {
            "prompt_index": prompt,
            "image_index": image,
            "detections": (RIGHT if image < right else WRONG)[prompt],
        }
        for prompt in range(6)
        for image in range(2)
    ]


def write(path: Path, lines: list[Any], header: Any = HEADER) -> Path:
    first = [] if header is None else [header]
    text = [one if isinstance(one, str) else json.dumps(one) for one in [*first, *lines]]
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.fixture
def bench() -> GenEval:
    return GenEval(config=GenEvalConfig(images_per_prompt=2, bootstrap=50))


def test_scores_of_saved_detections(tmp_path: Path, bench: GenEval) -> None:
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    detector = SavedDetections(write(tmp_path / "saved.jsonl", rows()))
    frame = bench.judge(samples, None, detector)
    assert frame["correct"].to_list() == [True, False] * 6
    assert frame["failed"].to_list()[1::2] == [
        ["count"],
        ["count"],
        ["count"],
        ["color"],
        ["position"],
        ["color"],
    ]
    protocol = bench.protocol(samples, detector, plan=True)
    assert protocol.name == f"geneval/saved/prompts-{samples.sha256[:12]}"
    scores = bench.scores(frame, protocol=protocol)
    assert scores["overall"] == 0.5 and scores["prompts_any_correct"] == 1
    assert (scores["of"], scores["partial"], scores["complete"]) == ("12 / 12", False, True)
    assert {task["of"] for task in scores["tasks"].values()} == {"2 / 2"}
    assert scores["low"] == scores["high"] == 0.5, "every prompt has one right picture: none of them varies"
    assert scores["protocol_record"]["plan"] is True
    json.dumps(scores)


def test_parquet_is_the_same(tmp_path: Path, bench: GenEval) -> None:
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    plain = SavedDetections(write(tmp_path / "saved.jsonl", rows()))
    asked = [Asked(sample=one, sha256="a" * 64, size=None, image=_no_picture) for one in samples.all]
    record = DetectorRecord(
        suffix="",
        detector={"name": "d"},
        networks={"detector": Network(name="n", files={"model.safetensors": "b" * 64})},
        prompt_texts={},
        resize={"detector": {"size": 384}},
    )
    judged = bench.judge(samples, None, plain)
    for name in ("again.parquet", "again.jsonl"):
        write_detections(tmp_path / name, zip(asked, plain.detect(asked, DEFAULT_RULES), strict=True), record)
        again = SavedDetections(tmp_path / name)
        assert len(again) == 12 and bench.judge(samples, None, again).equals(judged)
        assert again.record == record
        assert bench.protocol(samples, again).name == f"geneval/prompts-{samples.sha256[:12]}"
        other = [Asked(sample=samples.all[0], sha256="c" * 64, size=None, image=_no_picture)]
        assert "another picture" in (again.detect(other, DEFAULT_RULES)[0].unscored or "")
    assert why_unlike(bench.protocol(samples, plain), bench.protocol(samples, again))[0].startswith("name: ")
    bare = tmp_path / "bare.parquet"
    pl.DataFrame({"prompt_index": [0]}).write_parquet(bare)
    with pytest.raises(SavedDetectionsError, match=r"bare\.parquet, row 0: is no object of prompt_index"):
        SavedDetections(bare, by="me")
    bare.write_bytes(b"PAR1")
    with pytest.raises(SavedDetectionsError, match=r"bare\.parquet is not readable parquet"):
        SavedDetections(bare)


def test_what_is_not_in_the_file_has_no_verdict(tmp_path: Path, bench: GenEval) -> None:
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    lines = rows(right=2)[1:]
    lines[5]["detections"] = [found("clock")]
    frame = bench.judge(samples, None, SavedDetections(write(tmp_path / "saved.jsonl", lines)))
    assert frame.filter(pl.col("correct").is_null())["sample_id"].to_list() == ["00000-00000", "00003-00000"]
    with pytest.raises(IncompleteRunError) as caught:
        bench.scores(frame)
    for part in ("10 / 12 pictures are judged", "00000-00000 (saved.jsonl has no", "its colour is not known"):
        assert part in str(caught.value)
    scores = bench.scores(frame, partial=True)
    assert (scores["of"], scores["partial"], scores["complete"], scores["overall"]) == (
        "10 / 12",
        True,
        False,
        1,
    )
    assert scores["tasks"]["single_object"]["of"] == "1 / 2" and scores["tasks"]["single_object"]["partial"]
    assert scores["tasks"]["position"]["of"] == "2 / 2" and not scores["tasks"]["position"]["partial"]
    assert sum(scores["unscored"].values()) == 2


def test_without_a_task_there_is_no_mean_of_the_six(tmp_path: Path, bench: GenEval) -> None:
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    frame = bench.judge(samples, None, SavedDetections(write(tmp_path / "saved.jsonl", rows()[2:])))
    scores = bench.scores(frame, partial=True)
    assert scores["overall"] is None and scores["low"] is None
    assert scores["tasks"]["single_object"]["of"] == "0 / 2"
    assert scores["tasks"]["single_object"]["mean"] is None


def test_verdicts_of_other_samples_are_no_scores(tmp_path: Path, bench: GenEval) -> None:
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    detector = SavedDetections(write(tmp_path / "saved.jsonl", rows()))
    frame, protocol = bench.judge(samples, None, detector), bench.protocol(samples, detector)
    with pytest.raises(ValueError, match="have 11 rows of 11 samples, the protocol has 12"):
        bench.scores(frame.head(11), protocol=protocol, partial=True)
    with pytest.raises(ValueError, match="have 12 rows of 11 samples"):
        bench.scores(pl.concat([frame.head(11), frame.head(1)]))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", r"is not JSON \("),
        ("[]", "is no object of prompt_index"),
        ({"prompt_index": 0, "image_index": 0}, "is no object of prompt_index"),
        (
            {"prompt_index": 0, "image_index": 0, "detections": [], "color": "x"},
            "is no object of prompt_index",
        ),
        (
            {"prompt_index": 0, "image_index": 0, "detections": [], "image_sha256": 4},
            "image_sha256 is 4, not 64 hex",
        ),
        ({"prompt_index": -1, "image_index": 0, "detections": []}, "prompt_index is -1, not a whole"),
        ({"prompt_index": 0, "image_index": True, "detections": []}, "image_index is True, not a whole"),
        (rows()[1], "picture 1 of prompt 0 stands here a second time"),
        (["dog"], "detection 'dog' is no object of class"),
        ([{**found("dog"), "label": 3}], "is no object of class"),
        ([{**found("dog"), "score": 1.5}], "score of a dog is 1.5, not a number from 0 to 1"),
        ([{**found("dog"), "score": float("nan")}], "score of a dog is nan"),
        ([{**found("dog"), "score": "1"}], "score of a dog is '1'"),
        ([{**found("dog"), "box": [5, 5, 1, 9]}], "box of a dog is .*, not .x1, y1, x2, y2. in pixels"),
        ([{**found("dog"), "box": [0, 0, float("inf"), 9]}], "box of a dog is"),
        ([{**found("dog"), "box": None}], "box of a dog is None"),
        ([{**found("dog"), "color": "teal"}], "color of a dog is 'teal', not one of red"),
        ([{**found("dog"), "color": ["red"]}], "color of a dog is"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: Any, fault: str) -> None:
    if isinstance(line, list):
        line = {"prompt_index": 0, "image_index": 0, "detections": line}
    path = write(tmp_path / "saved.jsonl", [rows()[1], line])
    with pytest.raises(SavedDetectionsError, match=rf"saved\.jsonl:3: .*{fault}"):
        SavedDetections(path)


def test_a_file_has_to_say_what_found_its_detections(tmp_path: Path) -> None:
    path = write(tmp_path / "saved.jsonl", rows(), header=None)
    with pytest.raises(SavedDetectionsError, match=r"saved\.jsonl does not say what found its detections"):
        SavedDetections(path)
    write(tmp_path / "odd.jsonl", rows(), header={**HEADER, "networks": {"detector": {"name": "x"}}})
    with pytest.raises(SavedDetectionsError, match=r"odd\.jsonl: .*'x' has neither a revision nor hashes"):
        SavedDetections(tmp_path / "odd.jsonl")
    assert SavedDetections(path, by="YOLO 11").record.detector == {"name": "YOLO 11"}
    assert len(SavedDetections(path, by="YOLO 11")) == 12


@pytest.mark.parametrize(
    ("name", "value"), [("networks", [1]), ("prompt_texts", "x"), ("resize", None), ("suffix", 3)]
)
def test_a_header_of_other_types_is_named(tmp_path: Path, name: str, value: Any) -> None:
    path = write(tmp_path / "saved.jsonl", rows(), header={**HEADER, name: value})
    with pytest.raises(SavedDetectionsError, match=rf"saved\.jsonl: {name} is .*, not an? "):
        SavedDetections(path)


@pytest.mark.parametrize(
    ("classes", "shown"), [([], "nothing at all"), (["zebra", "Dog"], "only Dog, zebra")]
)
def test_a_detector_that_finds_nothing_is_refused(
    tmp_path: Path, bench: GenEval, classes: list[str], shown: str
) -> None:
    lines = [{**row, "detections": [found(one) for one in classes]} for row in rows()]
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    with pytest.raises(DetectorError, match=rf"no detection of any class .*\({shown}\): nothing was scored"):
        bench.judge(samples, None, SavedDetections(write(tmp_path / "saved.jsonl", lines)))


def test_colours_that_do_not_decide_are_not_needed(tmp_path: Path, bench: GenEval) -> None:
    """A worse detection of the class, and one of too few."""
    samples = bench.read(write_list(tmp_path / "list.jsonl"))
    lines = rows(right=2)
    lines[6]["detections"] = [found("clock", color="red"), found("clock", 100, score=0.5)]
    lines[7]["detections"] = []
    frame = bench.judge(samples, None, SavedDetections(write(tmp_path / "saved.jsonl", lines)))
    assert frame["correct"].to_list()[6:8] == [True, False]
