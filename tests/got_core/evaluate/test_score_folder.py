"""Scores as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.score_folder import ScoresError, find_scores, read_scores, write_scores
from got_core.storage import Storage

PROTOCOL = Protocol(name="geneval", version=1, aggregation={"overall": "mean"})
SCORES = {
    **protocol_figures(PROTOCOL),
    "overall": 0.5,
    "tasks": {},
    "complete": True,
    "found": 1,
    "expected": 1,
}


def written(folder: Path) -> Path:
    write_scores(Storage(f"file://{folder}"), SCORES, pl.DataFrame({"correct": [True]}), b"png")
    return folder


def test_a_folder_a_file_or_a_folder_of_folders(tmp_path: Path) -> None:
    one = written(tmp_path / "all" / "one")
    for place in (one, one / "scores.json", f"file://{one}/"):
        found = read_scores(str(place))
        assert found.scores == SCORES and found.url == f"file://{one}/scores.json"
        assert found.benchmark == "geneval"
        assert find_scores(str(place)) == [found]
    written(tmp_path / "all" / "two")
    (tmp_path / "all" / "three").mkdir()
    assert [Path(one.url).parent.name for one in find_scores(str(tmp_path / "all"))] == ["one", "two"]
    assert sorted(path.name for path in one.iterdir()) == [
        "grid.png", "protocol.json", "scores.json", "verdicts.parquet"
    ]  # fmt: skip
    assert json.loads((one / "protocol.json").read_text()) == PROTOCOL.to_dict()


def test_what_holds_no_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scores\.json is not there: name the folder"):
        find_scores(str(tmp_path))
    place = written(tmp_path) / "scores.json"
    place.write_text("{")
    with pytest.raises(ScoresError, match="is not JSON"):
        read_scores(str(tmp_path))
    place.write_text('{"overall": 1}')
    with pytest.raises(ScoresError, match="has no protocol, protocol_digest"):
        read_scores(str(tmp_path))
    place.write_text(json.dumps({**SCORES, "protocol_record": {**SCORES["protocol_record"], "version": 2}}))
    with pytest.raises(ScoresError, match="changed by hand"):
        read_scores(str(tmp_path))
    place.write_text(json.dumps({**SCORES, "protocol_record": [1]}))
    with pytest.raises(ScoresError, match="no scores"):
        read_scores(str(tmp_path))


TASK = {"mean": 0.5, "low": None, "high": 1, "n": 1}


@pytest.mark.parametrize(
    ("named", "damaged"),
    [
        ("tasks", {"tasks": {"counting": 3}}),
        ("tasks", {"tasks": [1]}),
        ("tasks", {"tasks": {"counting": {**TASK, "mean": "high"}}}),
        ("skills", {"skills": {"colour": {"n": 1}}}),
        ("overall", {"overall": "high"}),
        ("low", {"low": [0.1]}),
        ("found", {"found": None}),
        ("expected", {"expected": "12"}),
        ("drawn", {"drawn": ["a model"]}),
        ("drawn", {"drawn": {"costs": [1]}}),
        ("notes", {"notes": "one"}),
        ("settings", {"setting": "all", "settings": {"all": {"edited": 1}}}),
        ("settings", {"setting": "all", "settings": {"all": {"edited": {"raw": {"l1": {"mean": 1}}}}}}),
    ],
)
def test_figures_of_another_type_are_named(tmp_path: Path, named: str, damaged: dict[str, Any]) -> None:
    place = written(tmp_path) / "scores.json"
    place.write_text(json.dumps({**SCORES, "tasks": {"counting": TASK}}))
    assert read_scores(str(tmp_path)).scores["tasks"] == {"counting": TASK}
    place.write_text(json.dumps({**SCORES, **damaged}))
    with pytest.raises(ScoresError, match=rf"scores\.json holds no whole scores: {named} missing, or"):
        read_scores(str(tmp_path))
