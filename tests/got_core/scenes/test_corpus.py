from __future__ import annotations

import csv
import hashlib
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from got_core.local_files import temporary_beside
from got_core.scenes.config import KINDS, TASKS, CorpusConfig
from got_core.scenes.corpus import (
    MULTI_TURN,
    CorpusPart,
    WrittenPart,
    corpus_digest,
    reader_accuracy,
    write_corpus,
)
from got_core.scenes.edits import parse_instruction
from got_core.scenes.world import FULL, NARROW

CONFIG = CorpusConfig(images=60, edits=20, multi_turn=0.29, seed=4, folder_size=25)


def _write(home: Path, config: CorpusConfig = CONFIG) -> dict[str, int]:
    return write_corpus(NARROW, config, home / "raw", home / "edits", home / "truth" / "scenes.parquet")


def _files(home: Path) -> dict[str, tuple[bytes, int]]:
    names = sorted(path for path in home.rglob("*") if path.is_file())
    return {str(p.relative_to(home)): (p.read_bytes(), p.stat().st_mtime_ns) for p in names}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    assert _write(folder) == {"images": 60, "edits": 25, "written": 60 + 50 + 1}
    return folder


def test_the_raw_folder_holds_images_only_and_names_tell_nothing(home: Path) -> None:
    files = [path for path in (home / "raw").rglob("*") if path.is_file()]
    assert len(files) == 60 and len({path.parent for path in files}) == 3
    formats = Counter(path.suffix for path in files)
    assert set(formats) == {".png", ".jpg"} and 6 <= formats[".jpg"] <= 32
    words = (*NARROW.shapes, *NARROW.colors, *TASKS)
    assert not any(word in str(path.relative_to(home)) for path in files for word in words)
    for path in files:
        with Image.open(path) as image:
            assert image.size == (64, 64) and image.format == {".png": "PNG", ".jpg": "JPEG"}[path.suffix]


def test_truth_is_keyed_by_the_bytes_and_tasks_have_a_fair_share(home: Path) -> None:
    truth = pl.read_parquet(home / "truth" / "scenes.parquet")
    folders = {"image": home / "raw", "edit_source": home / "edits", "edit_target": home / "edits"}
    for row in truth.iter_rows(named=True):
        data = (folders[row["kind"]] / row["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["image_id"]
    images = truth.filter(pl.col("kind") == "image")
    assert Counter(images["style"]) == dict.fromkeys(TASKS, 10)
    edits = Counter(truth.filter(pl.col("kind") == "edit_source")["style"])
    assert edits == dict.fromkeys(KINDS, 4) | {MULTI_TURN: 5}


def test_the_truth_agrees_with_the_pictures(home: Path) -> None:
    truth = pl.read_parquet(home / "truth" / "scenes.parquet")
    paths = [path for folder in ("raw", "edits") for path in (home / folder).rglob("*.[jp][pn]g")]
    images = ((hashlib.sha256(p.read_bytes()).hexdigest(), Image.open(p)) for p in paths)
    figures = reader_accuracy(truth, images)
    assert figures["images"] == 110
    assert min(figures[name] for name in ("shape", "color", "count")) >= 0.99


def test_pair_table(home: Path) -> None:
    with (home / "edits" / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25 and set(rows[0]) == {"source", "target", "instruction"}
    for row in rows:
        assert (home / "edits" / row["source"]).is_file() and (home / "edits" / row["target"]).is_file()
    steps = [parse_instruction(row["instruction"]).steps for row in rows]
    assert {op.kind for ops in steps[:20] for op in ops} == set(KINDS)
    assert {len(ops) for ops in steps[:20]} == {1} and {len(ops) for ops in steps[20:]} <= {2, 3}


def test_a_finished_corpus_is_left_alone_and_the_same_seed_gives_the_same_bytes(
    home: Path, tmp_path: Path
) -> None:
    before = _files(home)
    assert _write(home)["written"] == 0
    assert _files(home) == before
    _write(tmp_path)
    assert {k: v[0] for k, v in _files(tmp_path).items()} == {k: v[0] for k, v in before.items()}


def test_only_what_is_missing_is_written_again(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    before = _files(copy)
    lost = sorted((copy / "raw").rglob("*.png"))[0]
    lost.unlink()
    assert _write(copy)["written"] == 1
    after = _files(copy)
    assert {k: v[0] for k, v in after.items()} == {k: v[0] for k, v in before.items()}
    kept = {
        k: v for k, v in after.items() if k.startswith(("raw", "edits")) and k != str(lost.relative_to(copy))
    }
    assert kept == {k: before[k] for k in kept}


def test_another_corpus_replaces_the_earlier_one_and_spares_foreign_files(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    (copy / "raw" / "mine.png").write_bytes(b"a file of the user's")
    _write(copy, replace(CONFIG, images=30, seed=5))
    names = {str(path.relative_to(copy / "raw")) for path in (copy / "raw").rglob("*") if path.is_file()}
    truth = pl.read_parquet(copy / "truth" / "scenes.parquet").filter(pl.col("kind") == "image")
    assert names == {*truth["path"], "mine.png"} and truth.height == 30


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    write_corpus(
        NARROW,
        CorpusConfig(images=7, edits=2, multi_turn=0.5),
        tmp_path / "raw",
        tmp_path / "edits",
        tmp_path / "truth.parquet",
        lambda done, total: reports.append((done, total)),
    )
    assert reports[-1] == (13, 13)


def test_digest_depends_on_world_and_configuration() -> None:
    digests = {
        corpus_digest(NARROW, CONFIG),
        corpus_digest(FULL, CONFIG),
        corpus_digest(NARROW, CorpusConfig()),
        corpus_digest(NARROW, CorpusConfig(place_draws=2)),
        corpus_digest(NARROW, CorpusConfig(edit_kinds=("add",))),
        corpus_digest(NARROW, CorpusConfig(reasoning=0.1)),
    }
    assert len(digests) == 6 and all(len(digest) == 12 for digest in digests)


def test_pairs_of_several_steps_leave_the_others_as_they_are(home: Path, tmp_path: Path) -> None:
    _write(tmp_path, replace(CONFIG, multi_turn=0.0))
    plain = {name: data for name, (data, _) in _files(tmp_path).items() if name.endswith("png")}
    more = {name: data for name, (data, _) in _files(home).items()}
    assert len(plain) + 10 == len([name for name in more if name.endswith("png")])
    assert all(more[name] == data for name, data in plain.items())


def test_pairs_that_need_reasoning_come_last_and_leave_the_others_as_they_are(
    home: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, reasoning=0.62)
    assert (config.pairs, CONFIG.pairs) == (37, 25)
    _write(tmp_path, config)
    plain = {name: data for name, (data, _) in _files(home).items() if name.endswith("g")}
    more = {name: data for name, (data, _) in _files(tmp_path).items()}
    assert all(more[name] == data for name, data in plain.items())
    with (tmp_path / "edits" / "pairs.csv").open() as file:
        asked = [row["instruction"] for row in csv.DictReader(file)][25:]
    for text in asked:
        with pytest.raises(ValueError, match="not a scene edit"):
            parse_instruction(text)
    truth = pl.read_parquet(tmp_path / "truth" / "scenes.parquet").filter(pl.col("kind") == "edit_source")
    assert truth["style"].to_list()[25:] == ["reasoning"] * 12 == ["reasoning"] * len(asked)
    assert "reasoning" not in truth["style"].to_list()[:25]


def test_a_kind_that_stands_twice_is_shown_twice_as_often(tmp_path: Path) -> None:
    _write(tmp_path, CorpusConfig(images=0, edits=12, edit_kinds=("add", "move", "add")))
    truth = pl.read_parquet(tmp_path / "truth" / "scenes.parquet")
    assert Counter(truth.filter(pl.col("kind") == "edit_source")["style"]) == {"add": 8, "move": 4}


def test_bad_places_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside the raw folder"):
        write_corpus(NARROW, CONFIG, tmp_path, tmp_path / "edits", tmp_path / "truth.parquet")
    with pytest.raises(ValueError, match="jpeg_share"):
        CorpusConfig(jpeg_share=1.5)
    with pytest.raises(ValueError, match="multi_turn"):
        CorpusConfig(multi_turn=-0.1)
    with pytest.raises(ValueError, match="and reasoning are >= 0"):
        CorpusConfig(reasoning=-0.1)
    with pytest.raises(ValueError, match="place_draws"):
        CorpusConfig(place_draws=0)
    for kinds in ((), ("add", "stretch")):
        with pytest.raises(ValueError, match="edit_kinds are one or more of add, remove"):
            CorpusConfig(edit_kinds=kinds)


def test_a_file_that_two_processes_write_at_once_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CorpusConfig(images=1, edits=0)
    part = CorpusPart(number=0, world=NARROW, config=config, folder=tmp_path, pairs=False, indices=range(1))
    write_bytes, others = Path.write_bytes, list[WrittenPart]()

    def overtaken(path: Path, data: bytes) -> int:
        """The other process writes the whole file before this one gives it its name."""
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        count = path.write_bytes(data)
        others.append(part.write())
        return count

    monkeypatch.setattr(Path, "write_bytes", overtaken)
    [row] = part.write().rows
    assert [other.rows for other in others] == [[row]] and others[0].written == 1
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == row["image_id"]


def test_what_a_killed_run_left_unfinished_goes_with_the_next_one(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    [lost, *_] = sorted((copy / "raw").rglob("*.png"))
    lost.rename(temporary_beside(lost))
    _write(copy)
    assert _files(copy).keys() == _files(home).keys()


def test_parts_that_others_write_in_any_order_are_the_same_files(home: Path, tmp_path: Path) -> None:
    def backwards(parts: Sequence[CorpusPart]) -> Iterator[WrittenPart]:
        for part in reversed(parts):
            yield pickle.loads(pickle.dumps(part)).write()

    seen: list[tuple[int, int]] = []
    counts = write_corpus(
        NARROW,
        CONFIG,
        tmp_path / "raw",
        tmp_path / "edits",
        tmp_path / "truth" / "scenes.parquet",
        progress=lambda *done: seen.append(done),
        each=backwards,
    )
    assert counts == {"images": 60, "edits": 25, "written": 111} and seen == [(50, 110), (110, 110)]
    written = {name: data for name, (data, _) in _files(tmp_path).items()}
    assert written == {name: data for name, (data, _) in _files(home).items()}
