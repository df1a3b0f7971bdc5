"""A `benchmark.toml` that says something wrong: the error names file and key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.judged.benchmark import JudgedBenchmark
from got_core.evaluate.judged.definition import read_definitions
from got_core.evaluate.judged.prompts import prompts_of
from got_core.evaluate.judged.samples import read_samples
from got_core.evaluate.judged_names import DefinitionError, is_own, names_of, shipped_names
from got_core.evaluate.published.registry import PUBLISHED_NAMES, published_benchmark

GOOD = """
title = "My edits"

[samples]
format = "jsonl"
path = "./samples.jsonl"
fields = { id = "{name}", instruction = "{text}", task = "{kind}" }
shows = { source = "{file}" }

[ask.edit]
prompt = "edit.txt"
shows = ["source", "edited"]
scores = ["success", "restraint"]
low = 0
high = 10

[score]
sample = "min"
factor = 0.1

[variants.long]
title = "My edits at length"
[variants.long.ask.quality]
prompt = "edit.txt"
shows = ["edited"]
scores = ["looks"]
low = 1
high = 5
"""


def folder_of(tmp_path: Path, text: str = GOOD, prompt: str = "How well was {instruction} done?") -> Path:
    folder = tmp_path / "my_edits"
    folder.mkdir(exist_ok=True)
    (folder / "benchmark.toml").write_text(text)
    (folder / "edit.txt").write_text(prompt)
    return folder


def test_a_folder_gives_its_name_and_its_variants(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    one, long = read_definitions(folder, "judged/my_edits")
    assert (one.name, long.name) == ("judged/my_edits", "judged/my_edits/long")
    assert list(names_of(folder, "judged/my_edits")) == [one.name, long.name]
    assert [ask.name for ask in one.asks] == ["edit"] and [ask.name for ask in long.asks] == [
        "edit",
        "quality",
    ]
    assert one.title == "My edits" and long.title == "My edits at length"
    assert one.source.path == "judged/my_edits/samples.jsonl" and one.source.pictures == "judged/my_edits"
    assert one.pictures_folder == long.pictures_folder == "published/judged_my_edits"
    assert long.scoring == one.scoring and long.score_names == ("success", "restraint", "looks")


WRONG = {
    'title = "My edits"': ("titel = 1", r"`title` is missing"),
    'format = "jsonl"': ('format = "xml"', r"`samples.format` must be one of parquet, .*, got 'xml'"),
    'path = "./samples.jsonl"': ('path = "../a"', r"`samples.path` must be a path below its folder"),
    "factor = 0.1": ("facter = 0.1", r"`score.facter` is no key here; there are factor, needs, overall"),
    'sample = "min"': ('sample = "max"', r"`score.sample` must be one of min, mean, root_of_product"),
    "high = 10": ("high = 0", r"`ask.edit.high` must be above `low`, got 0 and 0"),
    'shows = ["source", "edited"]': ('shows = ["sauce"]', r"`ask.edit.shows` names 'sauce', which is no"),
    'scores = ["success", "restraint"]': ("scores = 2", r"`ask.edit.scores` must be a list of texts, got 2"),
    'id = "{name}", ': ("", r"`samples.fields` lacks `id`"),
    'shows = { source = "{file}" }': ("shows = { mask = \"{m}\" }", r"`samples.shows` lacks `source`"),
    "low = 0": ("low = true", r"`ask.edit.low` must be a number, got True"),
    "[variants.long]": ('[variants.long]\nlike = "short"', r"`variants.long.like` must name another variant"),
    "[variants.long.ask.quality]": ("[variants.long.ask.Q]", r"`ask.Q` must be named by small letters"),
}  # fmt: skip


@pytest.mark.parametrize("old", WRONG)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, old: str) -> None:
    new, told = WRONG[old]
    assert old in GOOD
    folder = folder_of(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DefinitionError, match=told) as raised:
        read_definitions(folder, "judged/my_edits")
    assert str(folder / "benchmark.toml") in str(raised.value)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('[score]\nsample = "root_of_product"\nparts = [["success"]]', r"`score.parts` are two of"),
        ('[score]\nsample = "weighted"', r"`score.weights` are those of `weighted`"),
        ('[score]\nsample = "mean"\nneeds = ["looks"]', r"`score` names 'looks', which no question gives"),
        ('[pictures]\nplace = "{colour}"', r"`pictures.place` names 'colour', which is no field"),
        ('[pictures]\nfolder = "A/B"', r"`pictures.folder` must be small letters"),
        ("[ask.edit]\nonly = { colour = true }", r"`ask.edit.only` names 'colour', which is no field"),
        ('[ask.edit]\nreply = "choice"', r"`ask.edit.choices` are two or more of a reply `choice`"),
        (
            '[ask.edit]\nprompt = { file = "a.py" }',
            r"`ask.edit.prompt.file` is a Python file with `variables`",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_named(tmp_path: Path, more: str, told: str) -> None:
    text = GOOD + more.replace("[", "[variants.other.", 1)
    with pytest.raises(DefinitionError, match=told):
        read_definitions(folder_of(tmp_path, text), "judged/my_edits")


def test_what_is_no_toml_and_what_fills_in_no_field(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"my_edits/benchmark.toml is no TOML file: Invalid value"):
        read_definitions(folder_of(tmp_path, "title = "), "judged/my_edits")
    with pytest.raises(DefinitionError, match="the folder's name must be small letters"):
        read_definitions(folder_of(tmp_path), "judged/My-Edits")
    (one, _) = read_definitions(
        folder_of(tmp_path, prompt="How well was {instrution} done?"), "judged/my_edits"
    )
    with pytest.raises(DefinitionError, match=r"edit.txt fills in \{instrution\}, which is no field"):
        prompts_of(one, tmp_path)
    (one.folder / "edit.txt").unlink()
    with pytest.raises(
        DefinitionError, match=r"benchmark.toml: `ask.edit.prompt`: .*edit.txt cannot be read"
    ):
        prompts_of(one, tmp_path)


def test_names() -> None:
    assert set(shipped_names()) < set(PUBLISHED_NAMES)
    assert is_own("judged/my_edits/long") and not is_own("judged") and not is_own("judged/../x")
    assert not is_own("geneval") and not is_own("judged/My")


def test_an_own_benchmark_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    folder_of(tmp_path / "judged")
    assert published_benchmark("judged/my_edits/long", tmp_path).name == "judged/my_edits/long"
    with pytest.raises(
        ValueError, match=r"judged/none: .*none/benchmark.toml is not there; .* judged/my_edits"
    ):
        published_benchmark("judged/none", tmp_path)
    with pytest.raises(ValueError, match=r"gives judged/my_edits, judged/my_edits/long"):
        published_benchmark("judged/my_edits/short", tmp_path)
    with pytest.raises(
        ValueError, match="judged/my_edits is a folder below GOT_BENCHMARKS, which is not set"
    ):
        published_benchmark("judged/my_edits")


def test_two_questions_for_one_score_of_a_sample_are_an_error(tmp_path: Path) -> None:
    twice = GOOD + '[variants.twice.ask.again]\nprompt = "edit.txt"\nshows = ["edited"]\n' + (
        'scores = ["success"]\nlow = 0\nhigh = 10\n'
    )  # fmt: skip
    folder = folder_of(tmp_path, twice)
    (tmp_path / "judged/my_edits").mkdir(parents=True)
    (tmp_path / "judged/my_edits/samples.jsonl").write_text(
        '{"name": "a", "text": "grey", "kind": "k", "file": "a.png"}'
    )
    (tmp_path / "judged/my_edits/a.png").write_bytes(b"a picture")
    made = {one.name: one for one in read_definitions(folder, "judged/my_edits")}
    with pytest.raises(DefinitionError, match=r"two questions of judged/my_edits/twice give 'success' for"):
        JudgedBenchmark.open(made["judged/my_edits/twice"], tmp_path)


HARD = {
    "numbers without end": ("high = 10", f"high = 1{'0' * 400}", "ask.edit.high"),
    "no number": ("low = 0", "low = nan", "ask.edit.low"),
    "infinite": ("factor = 0.1", "factor = inf", "score.factor"),
    "tokens": ("high = 10", f"high = 10\nmax_tokens = 1{'0' * 30}", "ask.edit.max_tokens"),
    "a weight": ('"min"', '"weighted"\nweights = { success = inf }', "score.weights"),
    "a root of less than nothing": (
        'low = 0\nhigh = 10\n\n[score]\nsample = "min"',
        'low = -1\nhigh = 10\n\n[score]\nsample = "root_of_product"\nparts = [["success"], ["restraint"]]',
        "score.sample",
    ),
    "a path with control characters": ("./samples.jsonl", "./a\\u0000b", "samples.path"),
    "no column of pictures": ('"{file}"', '"file"', "samples.shows"),
    "choices alike": (
        'scores = ["success", "restraint"]\nlow = 0',
        'scores = ["success"]\nreply = "choice"\nchoices = ["Yes", "yes"]\nlow = 0',
        "ask.edit.choices",
    ),
}


@pytest.mark.parametrize("what", HARD)
def test_values_that_would_fail_later_are_refused_now(tmp_path: Path, what: str) -> None:
    old, new, key = HARD[what]
    text = GOOD.replace('"jsonl"', '"parquet"') if key == "samples.shows" else GOOD
    assert old in text
    with pytest.raises(DefinitionError, match=rf"benchmark.toml: `{re.escape(key)}`"):
        read_definitions(folder_of(tmp_path, text.replace(old, new, 1)), "judged/my_edits")


def test_lists_in_lists_without_end_are_no_toml_and_a_byte_order_mark_is(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="is no TOML file"):
        read_definitions(folder_of(tmp_path, f"a = {'[' * 5000}{']' * 5000}"), "judged/my_edits")
    assert len(read_definitions(folder_of(tmp_path, "\ufeff" + GOOD), "judged/my_edits")) == 2


def places_of(tmp_path: Path, place: str, rows: list[dict[str, str]]) -> str:
    """What is wrong with samples of a definition with this place for edited pictures."""
    text = GOOD.partition("[variants")[0].replace('task = "{kind}"', 'task = "{kind}", look = "{look}"')
    folder = folder_of(tmp_path, text.replace("[ask.edit]", f'[pictures]\nplace = "{place}"\n\n[ask.edit]'))
    here = tmp_path / "judged/my_edits"
    here.mkdir(parents=True)
    (here / "a.png").write_bytes(b"not looked at")
    lines = (json.dumps({"text": "t", "kind": "k", "look": "l", "file": "a.png"} | row) for row in rows)
    (here / "samples.jsonl").write_text("\n".join(lines))
    (one,) = read_definitions(folder, "judged/my_edits")
    return "; ".join(read_samples(one, tmp_path, partial=True).notes)


def test_two_samples_never_share_a_file(tmp_path: Path) -> None:
    rows = [{"name": "one"}, {"name": "two"}, {"name": "three", "look": "m"}]
    notes = places_of(tmp_path, "{look}", rows)
    assert "would be another's (place {look}): 1 (samples.jsonl line 2: l)" in notes


def test_no_edited_picture_lies_outside_of_its_folder(tmp_path: Path) -> None:
    rows = [{"name": "one", "look": ".."}, {"name": "two"}]
    assert "a hidden file: 1 (samples.jsonl line 1: ../one)" in places_of(tmp_path, "{look}/{id}", rows)


def test_a_name_of_a_picture_that_no_disk_takes_is_a_missing_picture(tmp_path: Path) -> None:
    rows = [{"name": "one", "file": "x" * 5000}, {"name": "two"}]
    assert "missing pictures: 1 (samples.jsonl line 1" in places_of(tmp_path, "{id}", rows)


def test_a_sample_that_is_only_asked_for_scores_without_weight_is_named(tmp_path: Path) -> None:
    text = GOOD.partition("[variants")[0]
    text = text.replace("high = 10", 'high = 10\nonly = { task = ["a"] }')
    text = text.replace('sample = "min"', 'sample = "weighted"\nweights = { success = 1 }')
    text = text.replace(
        "[score]",
        '[ask.b]\nprompt = "edit.txt"\nshows = ["edited"]\nscores = ["looks"]\nlow = 0\nhigh = 1\n\n[score]',
    )
    folder, here = folder_of(tmp_path, text), tmp_path / "judged/my_edits"
    here.mkdir(parents=True)
    (here / "a.png").write_bytes(b"not looked at")
    rows = [{"name": kind, "text": "t", "kind": kind, "file": "a.png"} for kind in "ab"]
    (here / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (one,) = read_definitions(folder, "judged/my_edits")
    with pytest.raises(BenchmarkDataError, match="nothing asks for a score that counts: 1"):
        read_samples(one, tmp_path)
