"""The list of prompts and questions: what is read, and which lines are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from got_core.evaluate.geneval2.prompts import QuestionListError, read_samples
from tests.got_core.evaluate.geneval2.lists import ROWS, write_checkout, write_list


def test_a_list_is_read(tmp_path: Path) -> None:
    samples = read_samples(write_checkout(tmp_path / "GenEval2"))
    assert len(samples) == 6 and samples.questions == sum(len(row["vqa_list"]) for row in ROWS)
    first = samples.all[3]
    assert (first.id, first.prompt, first.task) == ("00003", "two red squares and a blue circle", "5 atoms")
    assert [one.counting for one in first.questions] == [True, False, False] * 2
    assert samples.tasks == ("2 atoms", "3 atoms", "5 atoms", "6 atoms")
    assert not samples.published and "not the published list" in str(samples.note)
    assert samples.record()["questions"] == samples.questions
    assert read_samples(tmp_path / "GenEval2" / "geneval2_data.jsonl") == samples


def changed(**changes: object) -> dict:
    return {**ROWS[0], **changes}


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("{", "Expecting"),
        ("[]", "has list, not an object"),
        ({key: value for key, value in ROWS[0].items() if key != "skills"}, "not an object with atom_count"),
        (changed(more=1), "more"),
        (changed(prompt=" "), "prompt is ' '"),
        (changed(atom_count=True), "atom_count is True"),
        (changed(atom_count=0), "atom_count is 0"),
        (changed(vqa_list=[]), "at least one question"),
        (changed(skills="count"), "both lists"),
        (changed(skills=["count"]), "has 3 questions, skills has 1"),
        (changed(skills=["count", "colour", "object"]), "its skill is 'colour'"),
        (changed(skills=["count", ["x"], "object"]), "its skill is"),
        (changed(vqa_list=[["How many dogs?", "eleven"]], skills=["count"]), "'eleven', not one of one, two"),
        (changed(vqa_list=[["Is it red?", "No"]], skills=["attribute"]), "'No', not one of Yes"),
        (changed(vqa_list=[["Is it red?"]], skills=["attribute"]), r"not \[question, answer\]"),
        (changed(vqa_list=[["", "Yes"]], skills=["attribute"]), "empty question"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: object, match: str) -> None:
    path = write_list(tmp_path / "list.jsonl", [ROWS[1], bad])
    with pytest.raises(QuestionListError, match=match) as caught:
        read_samples(path)
    assert f"{path}:2: " in str(caught.value) and "geneval2_data.jsonl" in str(caught.value)


def test_other_bad_lists(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="clone it"):
        read_samples(tmp_path / "none.jsonl")
    with pytest.raises(QuestionListError, match="has no prompts"):
        read_samples(write_list(tmp_path / "empty.jsonl", [""]))
    with pytest.raises(QuestionListError, match=r"prompt 2 is .* again, as prompt 0"):
        read_samples(write_list(tmp_path / "twice.jsonl", [ROWS[0], ROWS[1], ROWS[0]]))
    path = tmp_path / "bytes.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b"\n\xff\n")
    with pytest.raises(QuestionListError, match=r":2: .*utf-8"):
        read_samples(path)
