"""Emu-Edit's data: splits, bad rows, the generations set and the folder of edited pictures."""

from __future__ import annotations

import pytest

from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.magicbrush import MagicBrush
from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from tests.got_core.evaluate.emu_edit.made import (
    emu_row,
    emu_set,
    generation,
    generations_set,
    picture,
    png,
    struct,
    write_parquet,
)

SHARD = "data/test-00000-of-00001.parquet"


def test_samples_of_a_split(tmp_path) -> None:
    rows = emu_set(tmp_path)
    samples = EmuEdit().read(tmp_path)
    assert [one.key for one in samples.samples] == [f"{row['idx']}_{row['hash']}" for row in rows]
    assert [one.instruction for one in samples.samples] == [row["instruction"] for row in rows]
    names = [one.source for one in samples.samples]
    assert samples.pictures.read(names) == {
        name: row["image"]["bytes"] for name, row in zip(names, rows, strict=True)
    }
    assert samples.pictures.read(names[5:1:-2]) == {
        name: samples.pictures.read([name])[name] for name in names[5:1:-2]
    }
    assert samples.notes == ("7 samples; the published split 'test' has 3589",)
    assert len(EmuEdit(split="validation").read(tmp_path).samples) == 3
    with pytest.raises(BenchmarkDataError, match="no files of the split 'train', only of test, validation"):
        EmuEdit(split="train").read(tmp_path)


def test_bad_rows_are_marked(tmp_path) -> None:
    emu_set(tmp_path)
    bad = [one.bad for one in EmuEdit().read(tmp_path).samples]
    assert bad == [None, None, "placeholder caption", "identical captions", None, None, None]
    empty = write_parquet(tmp_path / "one.parquet", [emu_row(0, output_caption=None)])
    assert EmuEdit().read(empty).samples[0].bad == "no caption"


def test_the_list_has_a_hash(tmp_path) -> None:
    rows = [emu_row(number) for number in range(4)]
    one, turned, other = (
        write_parquet(tmp_path / f"{name}.parquet", some)
        for name, some in {
            "one": rows,
            "turned": rows[::-1],
            "other": [*rows[:3], emu_row(3, output_caption="else")],
        }.items()
    )
    hashes = [EmuEdit().read(path).sha256() for path in (one, turned, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_faulty_rows_are_named(tmp_path) -> None:
    rows = [emu_row(0), emu_row(1, hash=None), emu_row(0), emu_row(3, instruction="")]
    write_parquet(tmp_path / SHARD, rows)
    with pytest.raises(BenchmarkDataError) as caught:
        EmuEdit().read(tmp_path)
    for part in (
        "rows without idx or hash: 1 (test-00000-of-00001.parquet row 1)",
        "rows that repeat idx and hash of another: 1 (test-00000-of-00001.parquet row 2: 0_00000000)",
        "rows without an instruction: 1 (test-00000-of-00001.parquet row 3)",
        "ask for a partial score",
    ):
        assert part in str(caught.value)
    samples = EmuEdit(partial=True).read(tmp_path)
    assert [one.key for one in samples.samples] == ["0_00000000"] and len(samples.notes) == 4


def test_columns_of_other_types_are_refused(tmp_path) -> None:
    for name, value, kind in (("output_caption", ["a dog"], "list"), ("instruction", 5, "int64")):
        path = write_parquet(tmp_path / f"{name}.parquet", [emu_row(0, **{name: value})])
        with pytest.raises(BenchmarkDataError, match=rf"{name} must hold texts and is of type {kind}"):
            EmuEdit().read(path)
    empty = write_parquet(tmp_path / "empty.parquet", [emu_row(0, input_caption=None, task=None)])
    (sample,) = EmuEdit().read(empty).samples
    assert (sample.input_caption, sample.task, sample.bad) == ("", "", "no caption")


def test_a_set_without_samples_is_refused_even_in_part(tmp_path) -> None:
    path = write_parquet(tmp_path / "one.parquet", [emu_row(0, instruction="  ")])
    with pytest.raises(BenchmarkDataError, match=r"rows without an instruction: 1 .*; no samples: 1"):
        EmuEdit(partial=True).read(path)


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(BenchmarkDataError, match="neither a parquet file nor a folder with any"):
        EmuEdit().read(tmp_path)
    write_parquet(tmp_path / SHARD, [{"idx": 1, "text": "x"}])
    with pytest.raises(BenchmarkDataError, match=r"lacks the columns hash, .*, image; it has idx, text"):
        EmuEdit().read(tmp_path)
    write_parquet(tmp_path / SHARD, [emu_row(0, image=png(0))])
    with pytest.raises(
        BenchmarkDataError, match=r"column image must hold .*a struct with `bytes`, and is binary"
    ):
        EmuEdit().read(tmp_path)
    (tmp_path / SHARD).write_bytes(b"PAR1 not really")
    with pytest.raises(BenchmarkDataError, match=r"test-00000-of-00001.parquet is not a readable parquet"):
        EmuEdit().read(tmp_path)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="emu_edit: batch_size must be at least 1, got 0"):
        EmuEdit(batch_size=0)
    with pytest.raises(ValueError, match="magicbrush: captions must be local or global, got 'both'"):
        MagicBrush(captions="both")  # type: ignore[arg-type]


def test_generations_are_joined_although_splits_are_swapped(tmp_path) -> None:
    rows = emu_set(tmp_path / "set")
    generations_set(tmp_path / "made", rows)
    bench = EmuEdit()
    samples = bench.read(tmp_path / "set")
    found = bench.generations(tmp_path / "made", samples)
    keys = [one.key for one in samples.samples]
    assert set(found.names()) == set(keys)
    assert found.read(keys) == {key: png(50 + row["idx"]) for key, row in zip(keys, rows, strict=True)}
    (note,) = found.notes
    assert "has the samples of 'test' in its split 'validation'" in note


def test_generations_of_the_same_split_name_need_no_note(tmp_path) -> None:
    rows = emu_set(tmp_path / "set")
    write_parquet(tmp_path / "made" / SHARD, [generation(row, 9) for row in rows])
    bench = EmuEdit()
    assert bench.generations(tmp_path / "made", bench.read(tmp_path / "set")).notes == ()


def test_generations_that_do_not_fit_are_named(tmp_path) -> None:
    rows = emu_set(tmp_path / "set")
    made = [generation(row, 9) for row in (*rows[1:], rows[2], emu_row(55))]
    write_parquet(tmp_path / "made" / SHARD, made)
    bench = EmuEdit()
    samples = bench.read(tmp_path / "set")
    with pytest.raises(BenchmarkDataError) as caught:
        bench.generations(tmp_path / "made", samples)
    for part in (
        "samples without a row: 1 (0_00000000)",
        "rows that repeat idx and hash of another: 1 (test-00000-of-00001.parquet row 6)",
        "rows of no sample: 1 (test-00000-of-00001.parquet row 7)",
    ):
        assert part in str(caught.value)
    partial = EmuEdit(partial=True).generations(tmp_path / "made", samples)
    assert len(partial.names()) == 6 and len(partial.notes) == 3


def test_a_set_of_several_models_needs_a_choice(tmp_path) -> None:
    rows = emu_set(tmp_path / "set")
    made = [generation(row, seed, model) for row in rows for seed, model in ((1, "a"), (2, "b"))]
    write_parquet(tmp_path / "made" / SHARD, made)
    bench = EmuEdit()
    samples = bench.read(tmp_path / "set")
    with pytest.raises(BenchmarkDataError, match="edits of a, b: choose one"):
        bench.generations(tmp_path / "made", samples)
    key = samples.samples[0].key
    assert bench.generations(tmp_path / "made", samples, "b").read([key]) == {key: png(2)}
    with pytest.raises(BenchmarkDataError, match="no edits of 'c', only of a, b"):
        bench.generations(tmp_path / "made", samples, "c")


def test_the_folder_is_written_and_read(tmp_path) -> None:
    emu_set(tmp_path / "set")
    bench = EmuEdit()
    samples = bench.read(tmp_path / "set")
    keys = [one.key for one in samples.samples]
    assert bench.write_pictures(tmp_path / "out", ((key, picture(3)) for key in keys)) == 7
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{key}.png" for key in keys)
    found = bench.read_layout(samples, tmp_path / "out")
    assert set(found.names()) == set(keys) and found.read(keys[:1])[keys[0]] == png(3)


def test_a_folder_that_does_not_fit_is_named(tmp_path) -> None:
    emu_set(tmp_path / "set")
    bench = EmuEdit()
    samples = bench.read(tmp_path / "set")
    keys = [one.key for one in samples.samples]
    out = tmp_path / "out"
    bench.write_pictures(out, ((key, picture(3)) for key in keys[1:]))
    (out / f"{keys[1]}.jpg").write_bytes(png(4))
    (out / "notes.txt").write_text("mine")
    (out / ".DS_Store").write_text("passed over")
    with pytest.raises(BenchmarkDataError) as caught:
        bench.read_layout(samples, out)
    for part in (
        f"missing pictures: 1 ({keys[0]}.png)",
        f"pictures that are there more than once: 1 ({keys[1]})",
        "files of no sample: 1 (notes.txt)",
    ):
        assert part in str(caught.value)
    assert ".DS_Store" not in str(caught.value)
    assert set(EmuEdit(partial=True).read_layout(samples, out).names()) == set(keys[2:])
    with pytest.raises(BenchmarkDataError, match="holds no pictures"):
        bench.read_layout(samples, tmp_path / "none")
    with pytest.raises(BenchmarkDataError, match=r"notes.txt is a file: name the folder of the edited"):
        EmuEdit(partial=True).read_layout(samples, out / "notes.txt")


def test_keys_are_names_of_files(tmp_path) -> None:
    path = write_parquet(tmp_path / "one.parquet", [emu_row(1, hash="../a/b", image=struct(png(1)))])
    samples = EmuEdit().read(path)
    EmuEdit().write_pictures(tmp_path / "out", [(samples.samples[0].key, picture(1))])
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["1_..%2Fa%2Fb.png"]
    assert len(EmuEdit().read_layout(samples, tmp_path / "out").names()) == 1
