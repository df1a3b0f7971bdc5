"""MagicBrush: both published forms, the authors' names of pictures, and scores against targets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from got_core.evaluate.emu_edit.magicbrush import MagicBrush
from got_core.evaluate.emu_edit.metrics import cosine
from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from tests.got_core.evaluate.emu_edit.made import (
    magicbrush_png,
    magicbrush_rows,
    picture,
    png,
    unpacked_magicbrush,
    write_descriptions,
    write_parquet,
)

KEYS = {
    "139_1": ("all_turns",),
    "139_inde_2": ("all_turns",),
    "139_inde_3": ("all_turns",),
    "139_iter_3": ("final_turn",),
    "30_1": ("all_turns", "final_turn"),
    "771_1": ("all_turns",),
    "771_inde_2": ("all_turns",),
    "771_iter_2": ("final_turn",),
}
"""By the authors' script, whose settings they belong to."""


def in_parquet(folder: Path, rows=None) -> Path:
    write_parquet(folder / "data/dev-00000-of-00001-b3949adffa3af51a.parquet", rows or magicbrush_rows())
    write_descriptions(folder)
    return folder


@pytest.mark.parametrize("form", ["unpacked", "parquet"])
def test_samples(tmp_path, form) -> None:
    bench = MagicBrush(split="test" if form == "unpacked" else "dev")
    samples = bench.read(unpacked_magicbrush(tmp_path) if form == "unpacked" else in_parquet(tmp_path))
    assert {one.key: one.settings for one in samples.samples} == KEYS
    by_key = {one.key: one for one in samples.samples}
    inner, chained = by_key["139_inde_3"], by_key["139_iter_3"]
    assert inner.output_caption == chained.output_caption == "local thing 3 of 139"
    assert inner.instruction == "do 3" and inner.task == "turn 3" and inner.cluster == "139"
    read = samples.pictures.read([inner.source, chained.source, inner.reference])
    assert read[inner.source] == magicbrush_png("139", 2), (
        "by itself, turn 3 edits the true picture of turn 2"
    )
    assert read[chained.source] == magicbrush_png("139", 0), "a copied chain is the session's first picture"
    assert read[inner.reference] == magicbrush_png("139", 3) and inner.reference == chained.reference


def test_both_forms_have_one_list(tmp_path) -> None:
    unpacked = MagicBrush().read(unpacked_magicbrush(tmp_path / "a"))
    rows = MagicBrush(split="dev").read(in_parquet(tmp_path / "b"))
    assert unpacked.sha256() == rows.sha256()


def test_captions_are_local_or_global(tmp_path) -> None:
    folder = unpacked_magicbrush(tmp_path)
    with pytest.raises(
        BenchmarkDataError, match=r"global_descriptions.json cannot be read: .*or name `captions_file`"
    ):
        MagicBrush(captions="global").read(folder)
    write_descriptions(folder, "global")
    assert MagicBrush(captions="global").read(folder).samples[0].output_caption == "global thing 1 of 139"
    (folder / "global_descriptions.json").write_text("[1]")
    with pytest.raises(BenchmarkDataError, match="must hold captions by session and file name"):
        MagicBrush(captions="global").read(folder)


def test_what_a_model_has_to_make(tmp_path) -> None:
    samples = MagicBrush().read(unpacked_magicbrush(tmp_path))
    made = {one.key: (one.source, one.of_edited) for one in MagicBrush().requests(samples)}
    assert set(made) == {*KEYS, "139_iter_2"}
    assert made["139_iter_2"] == ("139_1", True) and made["139_iter_3"] == ("139_iter_2", True)
    assert made["139_inde_3"] == ("139/139-output2.png", False) and made["30_1"] == ("30/30-input.png", False)
    order = list(made)
    assert all(order.index(source) < order.index(key) for key, (source, edited) in made.items() if edited)


def test_the_authors_layout(tmp_path) -> None:
    bench = MagicBrush()
    samples = bench.read(unpacked_magicbrush(tmp_path / "set"))
    out = tmp_path / "out"
    bench.write_pictures(out, ((one.key, picture(5)) for one in bench.requests(samples)))
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert files == sorted(f"{key.partition('_')[0]}/{key}.png" for key in (*KEYS, "139_iter_2"))
    assert set(bench.read_layout(samples, out).names()) == set(KEYS)
    (out / "139/139_inde_2.png").unlink()
    (out / "30/30_2.png").write_bytes(png(1))
    with pytest.raises(BenchmarkDataError) as caught:
        bench.read_layout(samples, out)
    assert "missing pictures: 1 (139/139_inde_2.png)" in str(caught.value)
    assert "files of no sample: 1 (30/30_2.png)" in str(caught.value)
    with pytest.raises(ValueError, match=r"'../x' is no key of MagicBrush"):
        bench.write_pictures(out, [("../x", picture(1))])


def test_faults_of_the_data_are_named(tmp_path) -> None:
    folder = unpacked_magicbrush(tmp_path)
    (folder / "images/30/30-output1.png").unlink()
    captions = json.loads((folder / "local_descriptions.json").read_text())
    del captions["771"]["771-output2.png"]
    (folder / "local_descriptions.json").write_text(json.dumps(captions))
    with pytest.raises(BenchmarkDataError) as caught:
        MagicBrush().read(folder)
    assert "missing pictures of the data: 1 (30/30-output1.png)" in str(caught.value)
    assert "targets without a caption: 1 (771-output2.png)" in str(caught.value)
    samples = MagicBrush(partial=True).read(folder)
    assert {one.key for one in samples.samples} == set(KEYS) - {"30_1", "771_inde_2", "771_iter_2"}
    assert len(samples.notes) == 2


def test_sessions_with_gaps_are_named(tmp_path) -> None:
    rows = magicbrush_rows()
    folder = in_parquet(
        tmp_path, [*rows[:1], *rows[2:], {**rows[3], "instruction": None}, {**rows[3], "img_id": "../up"}]
    )
    with pytest.raises(BenchmarkDataError) as caught:
        MagicBrush(split="dev").read(folder)
    assert "sessions with missing or repeated turns: 1 (139: [1, 3])" in str(caught.value)
    assert "rows without img_id, turn_index or instruction: 1 (" in str(caught.value)
    assert "sessions with ids that are no file names: 1 (../up)" in str(caught.value)


def test_other_session_files_are_refused(tmp_path) -> None:
    folder = unpacked_magicbrush(tmp_path)
    (folder / "edit_sessions.json").write_text(json.dumps({"30": [{"input": "30-input.png"}]}))
    with pytest.raises(
        BenchmarkDataError, match=r"edit_sessions.json must hold, by session, turns with input"
    ):
        MagicBrush().read(folder)


def changed(folder: Path, name: str, change) -> Path:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(content)))
    return folder


@pytest.mark.parametrize("instruction", [None, "", "  ", 4, "\ud800"])
def test_turns_without_an_instruction_are_named(tmp_path, instruction) -> None:
    def change(sessions):
        sessions["139"][1]["instruction"] = instruction
        return sessions

    folder = changed(unpacked_magicbrush(tmp_path), "edit_sessions.json", change)
    with pytest.raises(BenchmarkDataError, match=r"turns without an instruction: 1 \(turn 2 of 139\)"):
        MagicBrush().read(folder)


@pytest.mark.parametrize("caption", [None, " ", 5, ["a dog"], "half \udc00"])
def test_captions_that_are_no_texts_are_named(tmp_path, caption) -> None:
    def change(captions):
        captions["30"]["30-output1.png"] = caption
        return captions

    folder = changed(unpacked_magicbrush(tmp_path), "local_descriptions.json", change)
    with pytest.raises(BenchmarkDataError, match=r"targets without a caption: 1 \(30-output1.png\)"):
        MagicBrush().read(folder)


def test_sessions_without_turns_are_named(tmp_path) -> None:
    folder = changed(unpacked_magicbrush(tmp_path), "edit_sessions.json", lambda found: {**found, "30": []})
    with pytest.raises(BenchmarkDataError, match=r"sessions without turns: 1 \(30\)"):
        MagicBrush().read(folder)
    assert "30_1" not in {one.key for one in MagicBrush(partial=True).read(folder).samples}
    changed(folder, "edit_sessions.json", lambda found: {})
    with pytest.raises(BenchmarkDataError, match="no samples: 1"):
        MagicBrush(partial=True).read(folder)


def test_sessions_may_have_files_of_equal_names(tmp_path) -> None:
    folder = unpacked_magicbrush(tmp_path)
    for name in ("30", "139"):
        (folder / f"images/{name}/{name}-input.png").rename(folder / f"images/{name}/input.png")

    def change(sessions):
        for name in ("30", "139"):
            sessions[name][0]["input"] = "input.png"
        return sessions

    samples = MagicBrush().read(changed(folder, "edit_sessions.json", change))
    for one in samples.samples:
        if one.key in ("30_1", "139_1"):
            read = samples.pictures.read([one.source])[one.source]
            assert read == magicbrush_png(one.cluster or "", 0), "its own session's"


def test_columns_of_other_types_are_refused(tmp_path) -> None:
    rows = [{**row, "turn_index": float(row["turn_index"])} for row in magicbrush_rows()]
    with pytest.raises(BenchmarkDataError, match="turn_index must hold whole numbers and is of type double"):
        MagicBrush(split="dev").read(in_parquet(tmp_path, rows))


def test_scores_are_against_targets(networks, tmp_path) -> None:
    bench = MagicBrush(networks=networks)
    samples = bench.read(unpacked_magicbrush(tmp_path / "set"))
    out = tmp_path / "out"
    bench.write_pictures(out, ((one.key, picture(n)) for n, one in enumerate(samples.samples)))
    frame = bench.judge(samples, bench.read_layout(samples, out))
    assert (
        frame["kind"].value_counts(sort=True).height == 3 and frame["clip_dir"].null_count() == frame.height
    )
    chosen = (pl.col("sample") == "139_iter_3") & (pl.col("kind") == "edited")
    row = frame.row(by_predicate=chosen, named=True)
    made = picture([one.key for one in samples.samples].index("139_iter_3"))
    target = picture(1000 + 1390 + 3)
    clip, dino = networks.clip.pictures([made, target]), networks.dino.pictures([made, target])
    text = networks.clip.texts(["local thing 3 of 139"])
    assert row["clip_i"] == pytest.approx(cosine(clip[:1], clip[1:])[0], abs=1e-5)
    assert row["clip_t"] == pytest.approx(cosine(clip[:1], text)[0], abs=1e-5)
    assert row["dino"] == pytest.approx(cosine(dino[:1], dino[1:])[0], abs=1e-5)
    difference = np.asarray(made, float) / 255 - np.asarray(target, float) / 255
    assert row["l1"] == pytest.approx(np.abs(difference).mean()) and row["l2"] == pytest.approx(
        (difference**2).mean()
    )
    scores = bench.scores(frame, protocol=bench.protocol(samples))
    assert scores["protocol"] == "magicbrush/clip-vit-b32+dino-vits16" and scores["complete"]
    every, final = scores["settings"]["all_turns"], scores["settings"]["final_turn"]
    assert every["edited"]["raw"]["n"] == 6 and final["edited"]["raw"]["n"] == 3
    assert final["target"]["raw"]["clip_i"]["mean"] == pytest.approx(1)
    assert final["copied"]["raw"]["clip_i"]["mean"] < 1
    assert "clip_dir" not in every["edited"]["raw"] and set(every["edited"]["tasks"]) == {
        "turn 1",
        "turn 2",
        "turn 3",
    }


def test_a_target_given_back_is_perfect(networks, tmp_path) -> None:
    bench = MagicBrush(networks=networks)
    samples = bench.read(unpacked_magicbrush(tmp_path / "set"))
    out = tmp_path / "out"
    for one in samples.samples:
        path = out / f"{bench.place(one.key)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(samples.pictures.read([one.reference])[one.reference])
    raw = bench.scores(
        bench.judge(samples, bench.read_layout(samples, out)), protocol=bench.protocol(samples)
    )["settings"]["all_turns"]
    assert raw["edited"]["raw"]["l1"]["mean"] == 0 and raw["edited"]["raw"]["clip_i"][
        "mean"
    ] == pytest.approx(1)
    assert raw["edited"]["raw"]["clip_t"]["mean"] == pytest.approx(raw["target"]["raw"]["clip_t"]["mean"])
