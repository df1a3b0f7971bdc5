"""The published list's format, and how wrong lines are named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from got_core.evaluate.geneval import prompts
from got_core.evaluate.geneval.prompts import PromptListError, read_samples
from tests.got_core.evaluate.geneval.lists import ROWS, write_list

CLAUSE = {"class": "dog", "count": 1}


def test_samples_of_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_list(tmp_path / "own.jsonl")
    samples = read_samples(path, 2)
    assert len(samples) == 12 and samples.rows == tuple(ROWS)
    assert [one.name for one in samples.all][:3] == [
        "00000/samples/00000.png",
        "00000/samples/00001.png",
        "00001/samples/00000.png",
    ]
    assert samples.expected == dict.fromkeys(
        ("single_object", "two_object", "counting", "colors", "position", "color_attr"), 2
    )
    assert samples.classes == {"dog", "cup", "bench", "clock", "tv remote"}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert samples.record() == {"prompts": 6, "images_per_prompt": 2, "sha256": digest}
    assert not samples.published and digest[:12] in (samples.note or "")
    assert "\n" not in (samples.note or "")
    monkeypatch.setattr(prompts.Samples, "published_sha256", digest)
    assert samples.published and samples.note is None


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{", "Expecting property name"),
        ("[1]", "is list, not an object"),
        ('"' + "x" * 10, "Unterminated string"),
        ("[" * 100_000, "recursion"),
        ({"tag": "colors", "prompt": "half \ud800", "include": [CLAUSE]}, "surrogates not allowed"),
        ({"tag": "shapes", "prompt": "p", "include": [CLAUSE]}, "tag is 'shapes', not one of single_object"),
        ({"tag": "colors", "prompt": " ", "include": [CLAUSE]}, "prompt is ' ', not a text"),
        ({"tag": "colors", "prompt": "p"}, "at least one include clause"),
        ({"tag": "colors", "prompt": "p", "include": {}}, r"include is \{\}, not a list"),
        ({"tag": "colors", "prompt": "p", "include": ["dog"]}, r"include\[0\]: is 'dog', not an object"),
        ({"tag": "colors", "prompt": "p", "include": [{"class": "dog"}]}, "count is None, not a whole"),
        ({"tag": "colors", "prompt": "p", "include": [{**CLAUSE, "count": True}]}, "count is True"),
        ({"tag": "colors", "prompt": "p", "include": [{**CLAUSE, "count": 17}]}, "at most 16 of a class"),
        ({"tag": "colors", "prompt": "p", "include": [{"class": 3, "count": 1}]}, "class is 3, not a"),
        ({"tag": "colors", "prompt": "p", "include": [{**CLAUSE, "color": "cyan"}]}, "color is 'cyan'"),
        (
            {"tag": "colors", "prompt": "p", "include": [{**CLAUSE, "colour": "red"}]},
            "colour is judged",
        ),
        ({"tag": "colors", "prompt": "p", "include": [{**CLAUSE, "position": "x"}]}, "position is 'x', not"),
        (
            {"tag": "colors", "prompt": "p", "include": [{**CLAUSE, "position": ["above", 0]}]},
            "point to an earlier clause",
        ),
        (
            {"tag": "colors", "prompt": "p", "include": [CLAUSE, {**CLAUSE, "position": ["above", -1]}]},
            "point to an earlier clause",
        ),
        (
            {"tag": "colors", "prompt": "p", "include": [CLAUSE], "exclude": [{}]},
            r"exclude\[0\]: class",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: Any, fault: str) -> None:
    path = write_list(tmp_path / "list.jsonl", [ROWS[0], row])
    with pytest.raises(PromptListError, match=rf"list\.jsonl:2: .*{fault}"):
        read_samples(path)


def test_a_mark_of_the_byte_order_and_blank_lines_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    rows = [ROWS[0], {**ROWS[0], "prompt": "a photo of a caf\u00e9\u2028\U0001f600"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\n".join(lines).encode())
    assert list(read_samples(path).rows) == rows


def test_an_error_names_a_few_lines_and_counts_the_others(tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.jsonl", [ROWS[0], *["{"] * 9])
    with pytest.raises(PromptListError) as caught:
        read_samples(path)
    assert str(caught.value).count("list.jsonl:") == 5 and "and 4 more lines" in str(caught.value)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl is not a file; .*djghosh13/geneval \(MIT\)"):
        read_samples(tmp_path / "no.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(PromptListError, match=r"empty\.jsonl has no prompts"):
        read_samples(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(ROWS[0]).encode() + b"\n\xff\xfe\n")
    with pytest.raises(PromptListError, match=r"latin\.jsonl:2: "):
        read_samples(tmp_path / "latin.jsonl")
