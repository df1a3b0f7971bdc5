"""Edits drawn by a pipeline: in the layout, once, and each from the right source."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from got_core.evaluate.emu_edit.drawing import draw_edits
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.magicbrush import MagicBrush
from got_core.evaluate.emu_edit.samples import BenchmarkDataError
from got_core.evaluate.samples import Request
from tests.got_core.evaluate.emu_edit.made import emu_set, picture, png, unpacked_magicbrush
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

SAMPLER = {"num_inference_steps": 1, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def pipeline():
    return sees_its_conditions(tiny_pipeline())


def drawn_record(data: bytes) -> dict[str, object]:
    return json.loads(Image.open(io.BytesIO(data)).info["got"])


def test_edits_are_drawn_once_and_read_back(pipeline, tmp_path) -> None:
    emu_set(tmp_path / "set", count=5)
    bench = EmuEdit(batch_size=2)
    samples = bench.read(tmp_path / "set")
    out, reports = tmp_path / "out", []
    options = {"sampler": SAMPLER, "weights_hash": "a"}
    bench.write_layout(samples, pipeline, out, progress=lambda *done: reports.append(done), **options)
    assert reports == [(0, 5), (2, 5), (4, 5), (5, 5)]
    found = bench.read_layout(samples, out)
    assert set(found.names()) == {one.key for one in samples.samples}
    record = drawn_record(found.read([samples.samples[0].key])[samples.samples[0].key])
    assert record["prompt"] == samples.samples[0].instruction
    gone = samples.samples[3].key
    before = found.read([gone])[gone]
    (out / f"{gone}.png").unlink()
    assert bench.write_layout(samples, pipeline, out, **options) == 1
    again = np.asarray(Image.open(out / f"{gone}.png"), int)
    assert np.abs(again - np.asarray(Image.open(io.BytesIO(before)), int)).max() <= 1
    assert bench.write_layout(samples, pipeline, out, **options) == 0


def test_other_pictures_are_not_overwritten(pipeline, tmp_path) -> None:
    emu_set(tmp_path / "set", count=2)
    bench, out = EmuEdit(), tmp_path / "out"
    samples = bench.read(tmp_path / "set")
    bench.write_layout(samples, pipeline, out, sampler=SAMPLER, weights_hash="a")
    kept = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(BenchmarkDataError, match="is there already, of another model"):
        bench.write_layout(samples, pipeline, out, sampler=SAMPLER, weights_hash="b")
    with pytest.raises(BenchmarkDataError, match="is there already"):
        bench.write_layout(samples, pipeline, out, sampler=SAMPLER, weights_hash="a", plan=False)
    foreign = tmp_path / "foreign"
    bench.write_pictures(foreign, [(samples.samples[0].key, picture(1))])
    with pytest.raises(BenchmarkDataError, match="is there already"):
        bench.write_layout(samples, pipeline, foreign, sampler=SAMPLER)
    assert {path: path.read_bytes() for path in out.iterdir()} == kept
    damaged = sorted(kept)[0]
    damaged.write_bytes(kept[damaged][:60])
    assert bench.write_layout(samples, pipeline, out, sampler=SAMPLER, weights_hash="a") == 1


def test_without_a_plan(pipeline, tmp_path) -> None:
    emu_set(tmp_path / "set", count=2)
    bench = EmuEdit()
    samples = bench.read(tmp_path / "set")
    bench.write_layout(samples, pipeline, tmp_path / "out", sampler=SAMPLER, plan=False)
    records = [drawn_record(path.read_bytes()) for path in (tmp_path / "out").iterdir()]
    assert [one["chain"] for one in records] == ["", ""]


def test_a_chain_edits_the_models_own_pictures(pipeline, tmp_path) -> None:
    bench = MagicBrush()
    samples = bench.read(unpacked_magicbrush(tmp_path / "set"))
    requests = bench.requests(samples)
    out = tmp_path / "out"
    assert bench.write_layout(samples, pipeline, out, sampler=SAMPLER) == len(requests) == 9
    assert set(bench.read_layout(samples, out).names()) == {one.key for one in samples.samples}
    record = drawn_record((out / "139/139_iter_3.png").read_bytes())
    source = Image.open(out / "139/139_iter_2.png").convert("RGB")
    asked = Request("", "do 3", int(record["seed"]), source=source)  # type: ignore[call-overload]
    assert record["key"] == asked.key(SAMPLER, None)
    alone = drawn_record((out / "139/139_inde_3.png").read_bytes())
    true = Image.open(io.BytesIO(samples.pictures.read(["139/139-output2.png"])["139/139-output2.png"]))
    asked = Request("", "do 3", int(alone["seed"]), source=true)  # type: ignore[call-overload]
    assert alone["key"] == asked.key(SAMPLER, None) and alone["seed"] != record["seed"]


def test_a_source_that_cannot_be_read_is_named(pipeline, tmp_path) -> None:
    folder = unpacked_magicbrush(tmp_path / "set")
    (folder / "images/30/30-input.png").write_bytes(png(1)[:90])
    bench = MagicBrush()
    samples = bench.read(folder)
    chosen = [one for one in bench.requests(samples) if one.key == "30_1"]
    with pytest.raises(BenchmarkDataError, match=r"the source 30/30-input.png of 30_1 cannot be edited"):
        draw_edits(samples, chosen, pipeline, tmp_path / "out", bench.place, seed=0)
