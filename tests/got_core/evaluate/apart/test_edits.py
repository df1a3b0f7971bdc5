"""Edits of photographs planned and drawn apart."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from got_core.evaluate.apart.changes import NO_BOXES, OTHERS, UNCHANGED, change_facts
from got_core.evaluate.apart.edit_plans import edit_plan_facts, edit_plan_figures, edit_plan_rows, spoken_of
from got_core.evaluate.apart.edits import pictures_and_plans, plans_of_edits
from got_core.evaluate.apart.writing import read_plan
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.magicbrush import MagicBrush
from got_core.storage import Storage
from tests.got_core.evaluate.emu_edit.made import (
    emu_row,
    emu_set,
    picture,
    struct,
    unpacked_magicbrush,
    write_parquet,
)
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

LISTED = (
    "1. A street. 2. The cars in front 3. (100,100),(599,599) 4. The car becomes red. "
    "5. A street with a red car."
)


def test_what_is_said_of_a_plan() -> None:
    facts = edit_plan_facts(read_plan(LISTED), "Make the cars red and remove the dog")
    assert facts["parses"] and facts["listed"] and facts["has_boxes"] and facts["inside"]
    assert facts["area"] == pytest.approx(0.25, abs=0.01)
    assert facts["unnamed"] == ["dog"] and facts["named"] == pytest.approx(2 / 3)
    out = edit_plan_facts(read_plan("the car (100,100),(1200,500) and (5,5),(9,9)"), "paint the car")
    assert not out["parses"] and not out["inside"] and out["has_boxes"] and not out["listed"]
    none = edit_plan_facts(read_plan("nothing to see"), "do it")
    assert not none["has_boxes"] and not none["inside"] and none["area"] is None and none["named"] is None
    swapped = edit_plan_facts(read_plan("the car (5,5),(9,9) (500,500),(100,100)"), "paint the car")
    assert not swapped["parses"] and swapped["inside"]


def test_words_and_their_plurals_are_one() -> None:
    assert spoken_of("the cars") == spoken_of("a car")
    assert spoken_of("Boxes, benches and the puppies' glass") == spoken_of("box bench puppy glasses")
    assert spoken_of("bus") == spoken_of("the bus") != set()
    assert spoken_of("remove it from the picture") == set()


def test_plans_of_edits_are_written_once_and_counted(tmp_path: Path) -> None:
    rows, bench = emu_set(tmp_path / "set", count=5), EmuEdit(batch_size=2)
    samples, store, reports = bench.read(tmp_path / "set"), Storage(f"file://{tmp_path / 'store'}"), []
    options = {"weights_hash": "a", "sampler": {"max_new_tokens": 6}}
    frame, figures = plans_of_edits(
        bench, samples, tiny_pipeline(), store, progress=lambda *done: reports.append(done), **options
    )
    assert reports == [(2, 5), (4, 5), (5, 5)] and figures["plans"] == "5 / 5" and len(rows) == 5
    assert frame["cluster"].n_unique() == 5 and figures["parses"]["of"] == 5
    before = {name: store.read_bytes(name) for name in store.list("plans/")}
    again, _ = plans_of_edits(bench, samples, None_if_asked(), store, **options)  # type: ignore[arg-type]
    assert again.equals(frame) and {n: store.read_bytes(n) for n in store.list("plans/")} == before
    json.dumps(figures)


class None_if_asked:
    """A pipeline that has a configuration and writes nothing."""

    config = tiny_pipeline().config


def test_sources_and_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    rows = [emu_row(number) for number in range(3)]
    rows[1]["image"] = struct(b"no picture")
    write_parquet(tmp_path / "set/data/test-00000-of-00001.parquet", rows)
    store, options = Storage(f"file://{tmp_path / 'store'}"), {"sampler": {"max_new_tokens": 4}}
    bench = EmuEdit()
    with pytest.raises(ValueError, match=r"the source of 1_\w+ cannot be planned for: no readable picture"):
        plans_of_edits(bench, bench.read(tmp_path / "set"), tiny_pipeline(), store, **options)
    partial = EmuEdit(partial=True, batch_size=1)
    samples = partial.read(tmp_path / "set")
    frame, figures = plans_of_edits(partial, samples, tiny_pipeline(), store, **options)
    assert figures["plans"] == "2 / 3" and frame["chain"].null_count() == 1
    out = tmp_path / "out"
    partial.write_pictures(out, [(one.key, picture(3)) for one in samples.samples])
    for one in samples.samples:
        with_chain(out / f"{one.key}.png", LISTED)
    first = out / f"{samples.samples[0].key}.png"
    first.write_bytes(first.read_bytes()[:-200])
    rows_, drawn = pictures_and_plans(partial, samples, partial.read_layout(samples, out))
    assert drawn["pictures"] == "1 / 3" and "no readable picture" in rows_["left_out"][1]
    assert rows_["left_out"][0] is not None


def test_missing_plans_are_counted(tmp_path: Path) -> None:
    emu_set(tmp_path / "set", count=4)
    samples = EmuEdit().read(tmp_path / "set").samples
    figures = edit_plan_figures(edit_plan_rows(samples, {samples[0].key: read_plan(LISTED)}))
    assert figures["plans"] == "1 / 4" and figures["partial"] and figures["listed"]["n"] == 1
    assert set(figures["tasks"]) == {"local", "style"}


def test_the_share_of_the_change_inside_the_planned_boxes() -> None:
    source = Image.new("RGB", (100, 100))
    levels = np.zeros((100, 100, 3), np.uint8)
    levels[10:20, 10:20] = 90
    levels[60:70, 60:70] = 30
    chain = read_plan("a thing (0,0),(499,499)").chain
    facts = change_facts(source, Image.fromarray(levels), chain)
    assert facts["inside"] == pytest.approx(0.75) and facts["area"] == pytest.approx(0.25)
    assert facts["density"] == pytest.approx((0.75 / 0.25) / (0.25 / 0.75))
    whole = change_facts(source, Image.fromarray(levels), read_plan("all (0,0),(999,999)").chain)
    assert whole["inside"] == 1 and whole["area"] == 1 and whole["density"] is None
    assert change_facts(source, source, chain)["left_out"] == UNCHANGED
    assert change_facts(source, Image.fromarray(levels), read_plan("").chain)["left_out"] == NO_BOXES
    larger = change_facts(source, Image.fromarray(levels).resize((200, 200), Image.Resampling.NEAREST), chain)
    assert larger["inside"] == pytest.approx(0.75, abs=0.02)


def test_edited_pictures_against_the_plans_in_their_files(tmp_path: Path) -> None:
    emu_set(tmp_path / "set", count=4)
    bench, out = EmuEdit(), tmp_path / "out"
    samples = bench.read(tmp_path / "set")
    pipeline = sees_its_conditions(tiny_pipeline())
    bench.write_layout(samples, pipeline, out, sampler={"num_inference_steps": 1, "max_new_tokens": 4})
    first, second = samples.samples[:2]
    (out / f"{first.key}.png").unlink()
    with_chain(out / f"{second.key}.png", LISTED)
    bench.write_pictures(out, [(first.key, picture(3))])
    rows, figures = pictures_and_plans(bench, samples, bench.read_layout(samples, out))
    assert rows["left_out"].to_list() == [OTHERS, None, NO_BOXES, NO_BOXES]
    assert 0 < rows["inside"][1] < 1 and rows["area"][1] == pytest.approx(0.25, abs=0.02)
    assert figures["pictures"] == "1 / 4" and figures["left_out"] == {NO_BOXES: 2, OTHERS: 1}
    assert figures["inside"]["of"] == 4 and figures["inside"]["n"] == 1


def with_chain(path: Path, chain: str) -> None:
    """The same picture, drawn from another plan."""
    from PIL import PngImagePlugin

    image = Image.open(io.BytesIO(path.read_bytes()))
    record = {**json.loads(image.info.get("got", "{}")), "chain": read_plan(chain).chain.to_model()}
    info = PngImagePlugin.PngInfo()
    info.add_itxt("got", json.dumps(record))
    image.save(path, pnginfo=info)


def test_edits_of_earlier_edits_are_compared_with_these(tmp_path: Path) -> None:
    bench, out = MagicBrush(), tmp_path / "out"
    samples = bench.read(unpacked_magicbrush(tmp_path / "set"))
    bench.write_layout(samples, tiny_pipeline(), out, sampler={"num_inference_steps": 1, "max_new_tokens": 4})
    keys = [one.key for one in samples.samples]
    for key in keys:
        with_chain(out / f"{bench.place(key)}.png", LISTED)
    rows, _ = pictures_and_plans(bench, samples, bench.read_layout(samples, out))
    left_out = dict(zip(rows["sample"], rows["left_out"], strict=True))
    assert "earlier edit" in left_out["139_iter_3"]
    assert left_out["771_iter_2"] is None and left_out["139_inde_2"] is None
