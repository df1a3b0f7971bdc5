"""The judged benchmark of docs/adding.md: its texts as they stand there, in a folder, are all it takes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from got_core.evaluate.judged.definition import read_definitions
from got_core.evaluate.judged.shape import FORMATS, OVERALLS, REPLIES, SAMPLE_SCORES
from got_core.evaluate.judged.tables import Table
from got_core.evaluate.judged_names import SHIPPED, folders_in
from got_core.evaluate.score_folder import read_scores
from tests.docs.pages import blocks, text_of
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judged.made import COLOURS, about_samples, asked_in, encoded, write

from .conftest import Result

PAGE = "docs/adding.md"


def section() -> list[str]:
    """Texts of the section's blocks, in order: definition, list, prompt, commands."""
    lines = text_of(PAGE).splitlines()
    first = lines.index("## A judged benchmark")
    last = next(k for k, line in enumerate(lines) if k > first and line.startswith("## "))
    return [one.text for one in blocks(PAGE) if first < one.line <= last]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GOT_BENCHMARKS with the page's folder in it, and nothing else."""
    definition, samples, prompt, _ = section()
    folder = tmp_path / "benchmarks/judged/harbours"
    write(folder / "benchmark.toml", definition)
    write(folder / "samples.jsonl", samples)
    write(folder / "edit.txt", prompt)
    for number, row in enumerate(map(json.loads, samples.splitlines())):
        write(folder / "pictures" / row["file"], encoded(COLOURS[number], size=(64, 64)))
    monkeypatch.setenv("GOT_BENCHMARKS", str(tmp_path / "benchmarks"))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A judge that is content with boats, and not with cranes."""

    def answer(body: dict) -> str:
        marks = [5, 5] if "red boat" in asked_in(body) else [2, 4]
        return json.dumps({"score": marks, "reasoning": "that is how it looks"})

    with ChatServer(answer) as judge:
        monkeypatch.setenv("GOT_JUDGE_URL", judge.url)
        monkeypatch.setenv("GOT_JUDGE_MODEL", "eyes")
        yield judge


def test_the_page_s_example_is_scored(
    got: Callable[..., Result], model: Path, place: Path, server: ChatServer
) -> None:
    generate, judge, strict = (shlex.split(line)[1:] for line in section()[3].splitlines())
    made = got(*generate, "--model", model, "--steps", 1, "--max-new-tokens", 4)
    assert made.status == 0 and "2 pictures drawn now" in made.out, made.err
    assert got(*judge).status == 0
    asked = len(about_samples(server))
    assert asked == 2 and "what a program made of it when it was told: Add a red boat at the quay." in (
        " ".join(asked_in(body) for body in about_samples(server))
    )
    scores = read_scores("scores/harbours").scores
    assert scores["overall"] == pytest.approx((5 + 0.7 * 2 + 0.3 * 4) / 2)
    assert {name: one["mean"] for name, one in scores["tasks"].items()} == pytest.approx(
        {"add": 5, "remove": 2.6}
    )
    assert (scores["of"], scores["benchmark"]) == ("2 / 2", "judged/harbours")
    assert scores["protocol"] == "judged/harbours/judge-eyes"

    shown = got(*strict, "--json")
    assert shown.status == 0 and shown.json["overall"] == 0.5
    assert shown.json["drawn"]["model"], "drawn once, judged twice"


def test_a_slip_in_the_definition_is_told_with_file_and_key(got: Callable[..., Result], place: Path) -> None:
    text = (place / "benchmark.toml").read_text()
    (place / "benchmark.toml").write_text(text.replace("high = 5", 'high = "five"'))
    told = got("score", "fetch-list", "-b", "judged/harbours")
    assert told.status != 0 and re.search(
        r"harbours/benchmark.toml: `ask.edit.high` must be a number, got 'five'", told.err.replace("\n", " ")
    )
    told = got("score", "judge", "-b", "judged/harbors", "--pictures", "x")
    assert told.status != 0 and "there is no benchmark judged/harbors" in told.err


def test_every_key_of_a_definition_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader of definitions asks for, the page's table names."""
    asked: set[str] = set()
    raw = Table.raw

    def noting(table: Table, key: str, *default: object) -> object:
        if not re.search(r"(^|\.)(ask|download|sets|variants)$", table.name):  # there keys are names
            asked.add(key)
        return raw(table, key, *default)

    monkeypatch.setattr(Table, "raw", noting)
    for folder in folders_in(SHIPPED):
        read_definitions(folder, folder.name)
    page = text_of(PAGE).partition("## A judged benchmark")[2].partition("\n## ")[0]
    told = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    known = {*asked, *FORMATS, *REPLIES, *SAMPLE_SCORES, *OVERALLS, "like", "variants"}
    assert len(asked) > 30 and not known - told, known - told
