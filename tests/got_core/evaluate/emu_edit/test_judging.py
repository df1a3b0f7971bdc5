"""Judged pictures: figures against independent ones, what is kept, and what is named."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image, PngImagePlugin
from transformers import CLIPImageProcessorPil

from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.judging import ROWS
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.networks import Networks
from got_core.storage import Storage
from tests.got_core.evaluate.emu_edit.made import emu_row, emu_set, picture, png, struct, tiny, write_parquet

UNCHANGED, LARGER = 1, 4
"""Numbers of the rows whose edit is the source itself, and of another size."""


def edited_folder(folder: Path, samples, bench: EmuEdit) -> Path:
    """An edit for each sample."""
    for number, one in enumerate(samples.samples):
        made = picture(70 + number, (96, 64) if number == LARGER else (64, 48))
        bench.write_pictures(folder, [(one.key, made)])
        if number == UNCHANGED:
            (folder / f"{one.key}.png").write_bytes(samples.pictures.read([one.source])[one.source])
    return folder


@torch.no_grad()
def expected_row(
    networks: Networks, edited: Image.Image, source: Image.Image, texts: tuple[str, str]
) -> dict:
    """The figures of one edit, from the models themselves, one picture at a time."""

    def unit(features: torch.Tensor) -> np.ndarray:
        row = features[0].double().numpy()
        return row / np.sqrt((row**2).sum())

    clip, dino = networks.clip.model, networks.dino.model
    processors = {
        "clip": CLIPImageProcessorPil(),
        "dino": CLIPImageProcessorPil(
            size={"shortest_edge": 256}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
        ),
    }
    pixels = {
        name: [one(images=[p], return_tensors="pt")["pixel_values"] for p in (edited, source)]
        for name, one in processors.items()
    }
    e, s = (unit(clip.get_image_features(pixel_values=one).pooler_output) for one in pixels["clip"])
    tokens = [networks.clip._tokenizer([one], return_tensors="pt") for one in texts]
    given, wanted = (unit(clip.get_text_features(**one).pooler_output) for one in tokens)
    de, ds = (unit(dino(pixel_values=one).last_hidden_state[:, 0]) for one in pixels["dino"])
    shown = np.asarray(edited.resize(source.size, Image.Resampling.BICUBIC), float) / 255
    differences = shown - np.asarray(source, float) / 255
    direction = np.linalg.norm(e - s) * np.linalg.norm(wanted - given)
    return {
        "clip_i": e @ s,
        "clip_t": e @ wanted,
        "clip_dir": (e - s) @ (wanted - given) / direction if direction else None,
        "l1": np.abs(differences).mean(),
        "l2": (differences**2).mean(),
        "dino": de @ ds,
    }


def test_figures_are_the_formulas(networks, tmp_path) -> None:
    rows = emu_set(tmp_path / "set")
    bench = EmuEdit(networks=networks, batch_size=3)
    samples = bench.read(tmp_path / "set")
    reports: list[tuple[int, int]] = []
    pictures = bench.read_layout(samples, edited_folder(tmp_path / "out", samples, bench))
    frame = bench.judge(samples, pictures, lambda *done: reports.append(done))
    assert reports == [(3, 7), (6, 7), (7, 7)]
    assert frame.schema == pl.Schema(ROWS) and frame.height == 14
    assert set(frame["state"]) == {"judged"}
    for row in frame.to_dicts():
        number = next(n for n, one in enumerate(samples.samples) if one.key == row["sample"])
        source = Image.open(io.BytesIO(rows[number]["image"]["bytes"])).convert("RGB")
        edited = Image.open(io.BytesIO(pictures.read([row["sample"]])[row["sample"]])).convert("RGB")
        copied = row["kind"] == "copied" or number == UNCHANGED
        texts = rows[number]["input_caption"], rows[number]["output_caption"]
        expected = expected_row(networks, source if copied else edited, source, texts)
        if copied:
            expected["clip_dir"] = 0
        if number == 3:
            expected["clip_dir"] = None
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-5), row["sample"]
        assert row["unchanged"] == copied and row["resized"] == (number == LARGER and not copied)


def test_copying_is_perfect_where_the_source_is_asked_and_says_nothing_of_the_edit(
    networks, tmp_path
) -> None:
    emu_set(tmp_path / "set")
    bench = EmuEdit(networks=networks)
    samples = bench.read(tmp_path / "set")
    pictures = bench.read_layout(samples, edited_folder(tmp_path / "out", samples, bench))
    scores = bench.scores(bench.judge(samples, pictures), protocol=bench.protocol(samples))["settings"]["all"]
    raw = scores["copied"]["raw"]
    assert raw["clip_i"]["mean"] == pytest.approx(1) and raw["dino"]["mean"] == pytest.approx(1)
    assert raw["l1"]["mean"] == 0 and raw["clip_dir"]["mean"] == 0
    assert scores["edited"]["raw"]["l1"]["mean"] > 0.05
    assert scores["copied"]["unchanged"] == 7 and scores["edited"]["unchanged"] == 1


def tables(folder: Path) -> list[str]:
    """Ids of all rows that are kept, over all tables."""
    return [one for path in sorted(folder.rglob("*.parquet")) for one in pl.read_parquet(path)["row_id"]]


def test_what_is_judged_is_kept_and_found_again(networks, tmp_path) -> None:
    emu_set(tmp_path / "set")
    bench, store = EmuEdit(networks=networks, batch_size=2), Storage(f"file://{tmp_path}/store")
    samples = bench.read(tmp_path / "set")
    out = edited_folder(tmp_path / "out", samples, bench)
    first = bench.judge(samples, bench.read_layout(samples, out), store=store)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.parquet")}
    again = bench.judge(samples, bench.read_layout(samples, out), store=store)
    assert again.equals(first)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.parquet")} == kept
    other = samples.samples[5].key
    bench.write_pictures(out, [(other, picture(999))])
    changed = bench.judge(samples, bench.read_layout(samples, out), store=store)
    unlike = changed.filter(pl.col("row_id") != first["row_id"])
    assert unlike["sample"].to_list() == [other] and unlike["kind"].to_list() == ["edited"]
    assert len(tables(tmp_path / "store")) == len(set(first["row_id"])) + 1, "nothing else is judged again"


def test_damaged_tables_are_judged_again(networks, tmp_path) -> None:
    emu_set(tmp_path / "set")
    bench, store = EmuEdit(networks=networks, batch_size=2), Storage(f"file://{tmp_path}/store")
    samples = bench.read(tmp_path / "set")
    pictures = bench.read_layout(samples, edited_folder(tmp_path / "out", samples, bench))
    first = bench.judge(samples, pictures, store=store)
    damaged = sorted((tmp_path / "store").rglob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = bench.judge(samples, pictures, store=store)
    assert again["row_id"].to_list() == first["row_id"].to_list()
    np.testing.assert_allclose(again["clip_t"].to_numpy(), first["clip_t"].to_numpy(), atol=1e-6)
    assert sorted(tables(tmp_path / "store")) == sorted(set(first["row_id"]))


def test_other_networks_judge_anew(networks, tmp_path) -> None:
    emu_set(tmp_path / "set")
    store = Storage(f"file://{tmp_path}/store")
    bench = EmuEdit(networks=networks)
    samples = bench.read(tmp_path / "set")
    pictures = bench.read_layout(samples, edited_folder(tmp_path / "out", samples, bench))
    first = bench.judge(samples, pictures, store=store)
    half = tiny(tmp_path / "again", dtype="bfloat16")
    other = EmuEdit(networks=half).judge(samples, pictures, store=store)
    assert not set(first["row_id"]) & set(other["row_id"])


def test_missing_pictures_are_refused_or_said(networks, tmp_path) -> None:
    emu_set(tmp_path / "set")
    bench = EmuEdit(networks=networks)
    samples = bench.read(tmp_path / "set")
    out = edited_folder(tmp_path / "out", samples, bench)
    absent = samples.samples[2].key
    (out / f"{absent}.png").unlink()
    partial = EmuEdit(networks=networks, partial=True)
    pictures = partial.read_layout(samples, out)
    with pytest.raises(BenchmarkDataError, match=rf"missing: 1 \({absent}\)"):
        bench.judge(samples, pictures)
    frame = partial.judge(samples, pictures)
    missing = frame.filter(pl.col("state") == "missing")
    assert missing.select("sample", "kind").rows() == [(absent, "edited")]
    with pytest.raises(BenchmarkDataError, match=rf"1 of 14 pictures are not judged \({absent}\)"):
        bench.scores(frame, protocol=bench.protocol(samples))
    scores = partial.scores(frame, protocol=partial.protocol(samples))
    assert not scores["complete"] and (scores["found"], scores["expected"]) == (6, 7)
    assert scores["settings"]["all"]["edited"]["raw"]["clip_i"]["n"] == 6
    assert scores["settings"]["all"]["edited"]["raw"]["clip_i"]["of"] == 7


def test_broken_pictures_are_named_and_everything_else_is_kept(networks, tmp_path) -> None:
    emu_set(tmp_path / "set")
    store = Storage(f"file://{tmp_path}/store")
    bench = EmuEdit(networks=networks, batch_size=2)
    samples = bench.read(tmp_path / "set")
    out = edited_folder(tmp_path / "out", samples, bench)
    broken = samples.samples[1].key
    (out / f"{broken}.png").write_bytes(png(3)[:200])
    pictures = bench.read_layout(samples, out)
    with pytest.raises(BenchmarkDataError, match=rf"not readable: 1 \({broken}: no readable picture"):
        bench.judge(samples, pictures, store=store)
    ids = tables(tmp_path / "store")
    assert len(ids) == len(set(ids)) and len(ids) >= 6 + 4
    bench.write_pictures(out, [(broken, picture(2))])
    frame = bench.judge(samples, bench.read_layout(samples, out), store=store)
    assert set(frame["state"]) == {"judged"} and len(tables(tmp_path / "store")) == len(ids) + 1


def test_a_row_without_its_picture_is_named(networks, tmp_path) -> None:
    rows = [emu_row(0), emu_row(1, image=struct(None))]
    path = write_parquet(tmp_path / "one.parquet", rows)
    bench = EmuEdit(networks=networks)
    samples = bench.read(path)
    pictures = bench.read_layout(samples, edited_folder(tmp_path / "out", samples, bench))
    with pytest.raises(BenchmarkDataError, match=r"not readable: 2 .*there are no bytes; download"):
        bench.judge(samples, pictures)


def test_decoding_refuses_what_would_fill_memory() -> None:
    buffer = io.BytesIO()
    Image.new("L", (2000, 50)).save(buffer, format="PNG")
    with pytest.raises(
        ValueError, match=r"2000 x 50 pixels; at most 100,000,000, with sides of at most 1 to 20"
    ):
        decode(buffer.getvalue())
    grey = io.BytesIO()
    Image.new("LA", (4, 4), (7, 100)).save(grey, format="PNG")
    assert decode(grey.getvalue()).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(("levels", "kind"), [(np.uint16, "PNG"), (np.float32, "TIFF"), (np.uint16, "TIFF")])
def test_levels_of_more_than_8_bits_are_refused(levels: type, kind: str) -> None:
    """Pillow would make white pictures of them."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 1000, levels)).save(buffer, format=kind)
    with pytest.raises(ValueError, match="levels of more than 8 bits; write it with 8 bits a channel"):
        decode(buffer.getvalue())


def test_pictures_that_other_programs_would_open_are_not_read() -> None:
    buffer = io.BytesIO()
    picture(0).save(buffer, format="EPS")
    with pytest.raises(ValueError, match="no readable picture: it is none of PNG, JPEG, "):
        decode(buffer.getvalue())
    for kind in ("JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        buffer = io.BytesIO()
        picture(0).convert("CMYK" if kind == "JPEG" else "RGB").save(buffer, format=kind)
        assert decode(buffer.getvalue()).size == (64, 48)


def test_empty_pictures_are_not_judged(networks, tmp_path) -> None:
    """As they are drawn where a model gives NaN, also where figures of them are kept."""
    emu_set(tmp_path / "set")
    store = Storage(f"file://{tmp_path}/store")
    bench, partial = EmuEdit(networks=networks), EmuEdit(networks=networks, partial=True)
    samples = bench.read(tmp_path / "set")
    out = edited_folder(tmp_path / "out", samples, bench)
    key, note = samples.samples[1].key, PngImagePlugin.PngInfo()
    note.add_itxt("got", json.dumps({"fault": "12 latents hold NaN"}))
    Image.new("RGB", (64, 48)).save(out / f"{key}.png", pnginfo=note)
    pictures = bench.read_layout(samples, out)
    with pytest.raises(BenchmarkDataError, match=rf"1 \({key}: it is an empty picture: 12 latents hold NaN"):
        bench.judge(samples, pictures, store=store)
    frame = partial.judge(samples, pictures, store=store)
    states = frame.filter(pl.col("kind") == "edited")["state"].to_list()
    assert states == ["judged", "unreadable", *["judged"] * 5]


def test_without_networks_nothing_is_judged(tmp_path) -> None:
    emu_set(tmp_path)
    samples = EmuEdit().read(tmp_path)
    with pytest.raises(ValueError, match="emu_edit cannot judge without networks"):
        EmuEdit().judge(samples, samples.pictures)


KILLED = """
import json, os, signal, sys
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.networks import load_networks
from got_core.storage import Storage

root, batches = sys.argv[1], int(sys.argv[2])
bench = EmuEdit(networks=load_networks(BASE, f"{root}/net/clip", f"{root}/net/dino"), batch_size=2)
samples = bench.read(f"{root}/set")
left = [batches]

def progress(done, total):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

frame = bench.judge(samples, bench.read_layout(samples, f"{root}/out"), progress, Storage(f"file://{root}/store"))
frame.write_parquet(f"{root}/frame.parquet")
json.dump(bench.scores(frame, protocol=bench.protocol(samples)), open(f"{root}/scores.json", "w"))
"""


@pytest.mark.slow
def test_killed_while_judging(tmp_path) -> None:
    networks = tiny(tmp_path / "net")
    emu_set(tmp_path / "set")
    bench = EmuEdit(networks=networks, batch_size=2)
    samples = bench.read(tmp_path / "set")
    edited_folder(tmp_path / "out", samples, bench)
    for batches, expected in ((2, -signal.SIGKILL), (3, -signal.SIGKILL), (99, 0)):
        run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(batches)], check=False)
        assert run.returncode == expected
    frame = pl.read_parquet(tmp_path / "frame.parquet")
    kept = tables(tmp_path / "store")
    assert len(kept) == len(set(kept)) and set(kept) == set(frame["row_id"]), "nothing is judged twice"
    whole = bench.judge(samples, bench.read_layout(samples, tmp_path / "out"))
    scores = json.loads((tmp_path / "scores.json").read_text())
    edited = [
        one["settings"]["all"]["edited"]["raw"]
        for one in (scores, bench.scores(whole, protocol=bench.protocol(samples)))
    ]
    for name in ("clip_i", "clip_t", "clip_dir", "l1", "dino"):
        assert edited[0][name] == pytest.approx(edited[1][name], abs=1e-6)
