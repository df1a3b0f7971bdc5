"""Changes outside for a benchmark's pictures: which region counts, what is left out, what is written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, PngImagePlugin

from got_core.evaluate.comparison_page import spelled_outside
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.emu_edit.magicbrush import MagicBrush
from got_core.evaluate.outside import rows as outside
from got_core.evaluate.outside.rows import Case, edited_cases, outside_figures, outside_rows
from got_core.evaluate.outside.table import outside_table
from got_core.evaluate.published.outside import outside_of
from got_core.evaluate.published.registry import published_benchmark
from got_core.evaluate.runner import run_benchmark
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.emu_edit.made import (
    magicbrush_rows,
    picture,
    struct,
    unpacked_magicbrush,
    write_descriptions,
    write_parquet,
)
from tests.got_core.evaluate.outside.reason_edit_set import reason_edit_set, soft_mask
from tests.got_core.evaluate.published.downloads import write_data
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

BOXED = "1. A dog. 2. The dog 3. (250,250),(750,750) 4. It becomes a cat. 5. A cat."


def png(image: Image.Image, **record: object) -> bytes:
    """A picture with what this project's drawing notes in it."""
    info = PngImagePlugin.PngInfo()
    if record:
        info.add_itxt("got", json.dumps(record))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def alpha_mask(size: tuple[int, int] = (64, 48)) -> bytes:
    """A mask as inpainting takes it: transparent where to edit, at the left."""
    opaque = np.full((size[1], size[0]), 255, np.uint8)
    opaque[:, :20] = 0
    image = picture(7, size)
    image.putalpha(Image.fromarray(opaque))
    return png(image)


def case(name: str, **parts: object) -> Case:
    given = {"source": png(picture(1)), "edited": png(picture(2), chain=BOXED), **parts}
    return Case(sample_id=name, task="t", cluster=name, **given)  # type: ignore[arg-type]


def test_which_region_counts_and_what_is_left_out() -> None:
    plain, boxless = png(picture(2)), png(picture(2), chain="nothing to see")
    frame, heats = outside_rows(
        [
            case("exact", boxes=[(0, 0, 30, 30)], mask=soft_mask()),
            case("mask", mask=soft_mask()),
            case("plan"),
            case("unfit mask", mask=png(Image.new("L", (8, 8)))),
            case("other program", edited=plain),
            case("other program, unfit mask", edited=plain, mask=b"nothing"),
            case("no boxes", edited=boxless),
            case("missing", edited=None),
            case("no source", source=None),
            case("damaged", edited=b"no picture", boxes=[(0, 0, 9, 9)]),
            case("fault", fault="it is an empty picture: NaN", mask=soft_mask()),
            case("everything", boxes=[(0, 0, 64, 48)]),
        ]
    )
    found = {row["sample_id"]: row["region"] or row["left_out"] for row in frame.to_dicts()}
    assert list(found.values())[:4] == ["exact", "mask", "plan", "plan"]
    assert found["other program"] == outside.NO_REGION and found["no boxes"] == outside.NO_BOXES
    assert found["other program, unfit mask"].startswith("its mask cannot be read")
    assert found["other program, unfit mask"].endswith("and its file says of no plan")
    reasons = dict(frame.select("sample_id", "left_out").iter_rows())
    assert reasons["missing"] == outside.MISSING and reasons["no source"] == outside.NO_SOURCE
    assert reasons["damaged"].startswith("no readable picture")
    assert reasons["fault"] == "it is an empty picture: NaN" and "lies inside" in reasons["everything"]
    assert frame.filter(pl.col("left_out").is_null()).height == 4 == len(heats)


def test_figures_never_pool_kinds_of_regions() -> None:
    near = np.asarray(picture(1)).copy()
    near[-1, -1] += 255 - 200
    cases = [
        case("a", boxes=[(0, 0, 30, 30)], edited=Image.fromarray(near)),
        case("b", boxes=[(0, 0, 30, 30)], edited=picture(1)),
        case("c"),
        case("d", edited=None),
    ]
    frame, _ = outside_rows(cases, heats=0)
    figures = outside_figures(frame)
    assert figures["pictures"] == "3 / 4" and figures["partial"]
    assert figures["left_out"] == {outside.MISSING: 1} and list(figures["regions"]) == ["plan", "exact"]
    exact = figures["regions"]["exact"]
    assert exact["of"] == "2 / 4" and exact["unchanged"] == 1
    assert exact["psnr_outside"]["n"] == 1, "equal pictures have no PSNR, and are counted"
    assert exact["change_outside"]["n"] == 2
    mean = exact["change_outside"]
    assert mean["low"] <= mean["mean"] <= mean["high"] and mean["of"] == 4
    assert mean["mean"] == pytest.approx(np.mean(frame["change_outside"].to_list()[:2]))
    said = spelled_outside({"model": "m", "figures": figures})
    assert said.startswith("m, change outside the region of the edit: by plan (1 / 4) ")
    assert f"by exact (2 / 4) {mean['mean']:.2f} levels" in said and said.endswith(
        "the picture is missing: 1"
    )
    assert figures["record"]["version"] == 1 and figures["record"]["changed_above"] == 25
    json.dumps(figures)


def test_heat_maps_of_those_that_changed_most(storage: Storage) -> None:
    def edited(levels: int) -> Image.Image:
        return Image.fromarray(np.asarray(picture(1)) + np.uint8(levels))

    cases = [case(str(k), edited=edited(k), boxes=[(0, 0, 20, 20)]) for k in (5, 30, 1, 20, 30, 2)]
    table = outside_table(cases)
    assert len(table.heats) == 6 and table.rows["heat"].null_count() == 0
    frame, heats = outside_rows(cases, heats=2)
    assert frame["heat"].to_list() == [None, "000.png", None, None, "001.png", None] and len(heats) == 2
    table.write(storage, "there")
    assert set(storage.list("there/")) == {
        "there/outside.parquet",
        *(f"there/{name}" for name in table.heats),
    }
    fewer = outside_table(cases[:1])
    fewer.write(storage, "there")
    assert storage.list("there/outside/") == ["there/outside/000.png"], "older ones are gone"
    assert storage.read_table("there/outside")["heat"].to_list() == ["outside/000.png"]
    fewer.write(storage)
    assert storage.exists("outside/000.png") and fewer.joined({"a": 1}).keys() == {"a", "outside"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path / 'storage'}")


@pytest.mark.parametrize("form", ["unpacked", "parquet"])
def test_masks_of_magicbrush(tmp_path: Path, form: str) -> None:
    bench = MagicBrush(split="dev", batch_size=2)
    if form == "unpacked":
        data = unpacked_magicbrush(tmp_path / "set")
        (data / "images/139/139-mask2.png").write_bytes(alpha_mask())
    else:
        data, made = tmp_path / "set", magicbrush_rows()
        made[1]["mask_img"] = struct(alpha_mask())
        write_parquet(data / "data/dev-00000-of-00001.parquet", made)
        write_descriptions(data)
    samples = bench.read(data)
    bench.write_pictures(
        tmp_path / "edited", ((one.key, picture(k)) for k, one in enumerate(samples.samples))
    )
    pictures = bench.read_layout(samples, tmp_path / "edited")
    frame, _ = outside_rows(
        edited_cases(samples.samples, bench.requests(samples), samples.pictures, pictures)
    )
    masked = frame.filter(pl.col("region") == "mask")
    assert masked["sample_id"].to_list() == ["139_inde_2"]
    assert masked["area_outside"][0] == pytest.approx(1 - 21 / 64), "20 columns and a margin of one"
    others = set(frame.filter(pl.col("region").is_null())["left_out"])
    unfit = outside.NO_REGION.replace(
        "the data has no mask", "its mask is a coloured picture without an alpha"
    )
    assert (
        others == {outside.NO_REGION}
        if form == "unpacked"
        else len(others) == 1 and unfit[:40] in str(others)
    )


def test_edits_of_the_model_are_compared_by_their_plans(tmp_path: Path, storage: Storage) -> None:
    place = write_data(tmp_path / "place")
    opened = published_benchmark("emu_edit/base").open(place, networks=False)
    pipeline, folder = sees_its_conditions(tiny_pipeline()), Storage(f"file://{tmp_path / 'pictures'}")
    opened.generate(pipeline, folder, sampler={"num_inference_steps": 1, "max_new_tokens": 4})
    made = outside_of(opened, folder, pl.DataFrame())
    assert made is not None and made.figures["pictures"] == "0 / 4", "a tiny model plans no boxes"
    assert set(made.rows["left_out"]) == {outside.NO_BOXES}
    for name in folder.list():
        if name.endswith(".png"):
            image = Image.open(io.BytesIO(folder.read_bytes(name)))
            folder.write_bytes(name, png(image.convert("RGB"), chain=BOXED))
    again = outside_of(opened, folder, pl.DataFrame())
    assert again is not None and again.figures["pictures"] == "4 / 4"
    assert again.figures["regions"]["plan"]["change_outside"]["mean"] > 0
    assert (
        outside_of(object(), folder, pl.DataFrame()) is None
        and outside_of(opened, None, pl.DataFrame()) is None
    )


def test_scenes_have_exact_boxes_and_the_same_mean(storage: Storage) -> None:
    config = EvaluateConfig(
        edit_images=6,
        batch_size=6,
        bootstrap=50,
        num_inference_steps=1,
        max_new_tokens=8,
        keep_outside="both",
    )
    result = run_benchmark(EditScenes(NARROW, config), tiny_pipeline(), storage, "e", weights_hash="w")
    table = storage.read_table("e/outside")
    both = table.join(result.samples, on="sample_id", suffix="_judged")
    assert both.height == 6 and set(both["region"]) == {"exact"}
    assert np.allclose(both["change_outside"], both["change_outside_judged"], rtol=1e-5)
    block = result.scores["outside"]
    assert block == storage.read_json("e/scores.json")["outside"] and block["pictures"] == "6 / 6"
    exact = block["regions"]["exact"]["change_outside"]["mean"]
    assert exact == pytest.approx(result.scores["change_outside"], rel=1e-5)
    assert "outside" in result.scores["kept_outside"] and storage.exists("e/outside/000.png")


def test_judged_edits_have_the_masks_of_their_data_and_share_pictures(tmp_path: Path) -> None:
    reason_edit_set(tmp_path / "reason_edit", each=1)
    judged, masked = (
        published_benchmark(name).open(tmp_path, networks=False)
        for name in ("reason_edit", "reason_edit/masked")
    )
    pipeline, folder = sees_its_conditions(tiny_pipeline()), Storage(f"file://{tmp_path / 'pictures'}")
    options = {"sampler": {"num_inference_steps": 1, "max_new_tokens": 4}}
    assert judged.generate(pipeline, folder, **options) == 6
    assert masked.generate(pipeline, folder, **options) == 0, "they are the same pictures"
    for opened in (judged, masked):
        made = outside_of(opened, folder, pl.DataFrame())
        assert (
            made is not None and set(made.rows["region"]) == {"mask"} and made.figures["pictures"] == "6 / 6"
        )
    assert published_benchmark("reason_edit").folder == published_benchmark("reason_edit/masked").folder
