"""Drawing, judging and comparing, each by itself, as a person sees it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from got_core.evaluate.picture_record import RECORD
from got_core.evaluate.protocol import digest_of
from got_core.model.formats.released import save_got_checkpoint
from got_core.storage import Storage
from tests.got_core.evaluate.emu_edit.made import emu_row, generation, write_parquet
from tests.got_core.evaluate.geneval.lists import png
from tests.got_core.evaluate.published.downloads import EDITS, write_data, write_networks
from tests.got_core.tiny_pipeline import tiny_pipeline

from .conftest import Result

Got = Callable[..., Result]
FEW = ("--steps", 1, "--max-new-tokens", 4)
PUBLISHED = {
    "geneval": {"overall", "single_object", "two_object", "counting", "colors", "position", "color_attr"},
    "emu_edit/base": {"clip_i", "clip_t", "clip_dir", "l1", "l2", "dino"},
    "magicbrush/base": {"clip_i", "clip_t", "l1", "l2", "dino"},
}
SCENES = ("geneval/scenes", "edits/scenes", "imagenhub/scenes", "emu_edit/scenes", "reason_edit/scenes")


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_networks(write_data(tmp_path_factory.mktemp("benchmarks") / "place"))


@pytest.fixture
def place(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GOT_BENCHMARKS with all data and networks; nothing writes there."""
    monkeypatch.setenv("GOT_BENCHMARKS", str(downloads))
    return downloads


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, model: Path, downloads: Path) -> Callable[[str], Path]:
    """A model's pictures for a benchmark; made once, and copied by whoever changes them."""
    from got_assets.cli import main

    made: dict[str, Path] = {}

    def pictures(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("drawn") / "pictures"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("GOT_BENCHMARKS", str(downloads))
                patch.setenv("GOT_HOME", str(folder.parent / "home"))
                patch.setenv("GOT_RECIPE", "tiny")
                patch.chdir(folder.parent)
                call = ["score", "generate", "-b", name, "--model", model, "--pictures", folder, *FEW]
                assert main([str(one) for one in call]) == 0
            made[name] = folder
        return made[name]

    return pictures


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@pytest.mark.parametrize("name", [*PUBLISHED, *SCENES])
def test_draw_judge_compare(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """The folders go to another machine between the steps."""
    pictures = copied(drawn(name), tmp_path / "there" / "pictures")
    judged = got("score", "judge", "-b", name, "--pictures", pictures, "--json")
    assert judged.status == 0, judged.err
    scores = judged.json
    assert scores["benchmark"] == name and scores["complete"] and not scores["partial"]
    assert scores["drawn"]["plan"] is True and scores["drawn"]["costs"]["pictures"] > 0
    assert scores["protocol_record"]["sampler"] == {"num_inference_steps": 1, "max_new_tokens": 4}
    folder = Path(f"{pictures}-scores") / name.replace("/", "_")
    assert json.loads((folder / "scores.json").read_text()) == scores
    assert {path.name for path in folder.iterdir()} >= {"protocol.json", "verdicts.parquet", "grid.png"}

    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(pictures)
    page = tmp_path / "scores.html"
    table = got("score", "report", tmp_path / "elsewhere", "--html", page, "--price-per-hour", 3600)
    assert table.status == 0, table.err
    assert scores["protocol"] in table.out and "with plans" in table.out
    assert scores["protocol_digest"] in page.read_text()
    (one,) = got("score", "report", tmp_path / "elsewhere", "--json", "--price-per-hour", 3600).json[
        "benchmarks"
    ]
    row = one["tables"][0]["rows"][0]
    assert row["of"] == scores["of"] and row["money"] == pytest.approx(row["seconds"])
    assert set(row["figures"]) == PUBLISHED.get(name, {"overall", *scores["tasks"]})
    if "edit" in name or "magic" in name:
        kinds = [other["row"] for other in one["tables"][0]["rows"]]
        assert kinds[:1] == ["model"] and (name in SCENES or "copied" in kinds)


def test_pictures_of_edits_are_judged_by_every_benchmark_that_shares_them(
    got: Got, model: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    pictures = copied(drawn("edits/scenes"), tmp_path / "pictures")

    def judge(name: str) -> Result:
        return got("score", "judge", "-b", name, "--pictures", pictures, "--json")

    edits, emu = judge("edits/scenes"), judge("emu_edit/scenes")
    assert emu.status == 0 and emu.json["of"] == "5 / 5", emu.err
    assert edits.json["unchanged"] == 0 and "unchanged" not in emu.json and "copied" not in emu.json
    lacking = judge("imagenhub/scenes")
    assert lacking.status == 1 and "6 / 7 pictures of imagenhub/scenes" in lacking.err
    assert "absent/00000.png" in lacking.err
    added = got(
        "score",
        "generate",
        "-b",
        "imagenhub/scenes",
        "--model",
        model,
        "--pictures",
        pictures,
        *FEW,
        "--json",
    )
    assert added.status == 0 and added.json["drawn"] == 1, added.err
    hub = judge("imagenhub/scenes").json
    assert hub["of"] == "7 / 7" and hub["detector_ceiling"] == 1 and hub["copied"] == 0
    again = judge("edits/scenes").json
    assert again | {"drawn": None} == edits.json | {"drawn": None}, "the others' pictures are not its own"
    other = judge("reason_edit/scenes")
    assert other.status == 1 and "holds pictures for edits" in other.err


def test_drawing_goes_on_and_takes_no_other_folder(
    got: Got, place: Path, model: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    pictures = copied(drawn("geneval"), tmp_path / "pictures")
    call = ("score", "generate", "-b", "geneval", "--model", model, "--pictures", pictures, *FEW)
    (pictures / "00003/samples/00002.png").unlink()
    again = got(*call, "--json")
    assert again.status == 0, again.err
    assert again.json["drawn"] == 1 and again.json["costs"]["pictures"] == 25
    other = got(*call, "--no-plan")
    assert (
        other.status == 1 and "plan is True, now False" in other.err and "take an empty folder" in other.err
    )
    assert "take an empty folder" in got(*call, "--text-scale", 2).err
    edits = got("score", "generate", "-b", "emu_edit/base", "--model", model, "--pictures", pictures, *FEW)
    assert edits.status == 1 and "pictures_of is 'published/geneval'" in edits.err
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.png").write_bytes(png(0))
    theirs = got(*(tmp_path / "theirs" if one == pictures else one for one in call))
    assert theirs.status == 1 and "nothing that says how it was drawn" in theirs.err
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "00001/samples/00003.png").unlink(), "00001/samples/00003.png: is missing"),
        (lambda folder: (folder / "00001/metadata.jsonl").unlink(), "00001/metadata.jsonl: is missing"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "notes.txt: is not of the layout"),
        (
            lambda folder: (
                shutil.rmtree(folder / ".got"),  # other people's pictures
                (folder / "00000/samples/00000.png").write_bytes(png(1, (48, 32))),
            ),
            "00000/samples/00000.png: is 48x32 pixels, most are",
        ),
        (
            lambda folder: (folder / "00000/samples/00000.png").write_bytes(png(1, (48, 32))),
            "00000/samples/00000.png: was not drawn by this project",
        ),
        (lambda folder: (folder / "00000/samples/00000.png").write_bytes(b"x"), "cannot be read"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_or_partial(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path,
    change: Callable[[Path], Any], named: str,
) -> None:  # fmt: skip
    pictures = copied(drawn("geneval"), tmp_path / "pictures")
    change(pictures)
    call = ("score", "judge", "-b", "geneval", "--pictures", pictures)
    refused = got(*call)
    assert refused.status == 1 and named in refused.err
    assert not list(tmp_path.glob("pictures-scores/**/scores.json"))
    partial = got(*call, "--partial")
    assert partial.status == 0, partial.err
    scores = json.loads((tmp_path / "pictures-scores/geneval/scores.json").read_text())
    if scores["found"] < scores["expected"]:
        assert scores["partial"] and f"partial: {scores['of']}" in partial.out
        assert f"partial: {scores['of']}" in got("score", "report", tmp_path / "pictures-scores").out


def test_no_partial_score_of_nothing(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    others = copied(drawn("geneval"), tmp_path / "others")
    shutil.rmtree(others / ".got")
    nothing = got("score", "judge", "-b", "emu_edit/base", "--pictures", others, "--partial")
    assert nothing.status == 1 and "(0 / 4), so there is no partial score either" in nothing.err
    assert "files of no sample" in nothing.err
    mistyped = got("score", "judge", "-b", "geneval", "--pictures", tmp_path / "nowhere", "--partial")
    assert mistyped.status == 1 and "nowhere holds no pictures: name the folder" in mistyped.err
    assert not list(tmp_path.glob("**/scores.json"))


@pytest.mark.parametrize(
    ("benchmark", "name"),
    [
        ("geneval", "00001/samples/00000.png"),
        ("emu_edit/base", "1_00001eef.png"),
    ],
)
def test_pictures_of_other_weights_do_not_count_as_the_models(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path, benchmark: str, name: str
) -> None:
    pictures = copied(drawn(benchmark), tmp_path / "pictures")
    call = ("score", "judge", "-b", benchmark, "--pictures", pictures)
    for own, what in (("f00d", "other weights (f00d"), ("", "not drawn by this project")):
        with_text(pictures / name, own)
        refused = got(*call)
        assert refused.status == 1 and name.removesuffix(".png") in refused.err and what in refused.err
        partial = got(*call, "--partial", "--json")
        scores = json.loads(partial.out)
        assert scores["partial"] and scores["found"] == scores["expected"] - 1
        shutil.rmtree(tmp_path / "pictures-scores")


def with_text(path: Path, weights: str) -> None:
    """The same picture as other weights would have drawn it, or as another program would."""
    info = PngImagePlugin.PngInfo()
    with Image.open(path) as image:
        record = json.loads(image.info.get("got", "{}"))
        if weights:
            info.add_itxt("got", json.dumps({**record, "weights_hash": weights}))
        image.load()
        image.copy().save(path, pnginfo=info if weights else None)


def test_a_page_is_no_folder(got: Got, tmp_path: Path) -> None:
    refused = got("score", "report", tmp_path, "--html", tmp_path)
    assert refused.status == 2 and "--html" in refused.err and "is a directory" in refused.err


@pytest.mark.parametrize("lacking", ["mask2former-swin-small-coco-instance", "clip-vit-large-patch14"])
def test_no_weaker_judge_takes_the_place_of_a_missing_one(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path, lacking: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(place, tmp_path / "place")
    shutil.rmtree(tmp_path / "place/networks" / lacking)
    monkeypatch.setenv("GOT_BENCHMARKS", str(tmp_path / "place"))
    call = ("score", "judge", "-b", "geneval", "--pictures", drawn("geneval"), "--out", tmp_path / "out")
    done = got(*call, "--partial")
    assert done.status == 1 and f"{lacking} is missing: " in done.err and "licence" in done.err
    assert not (tmp_path / "out/scores.json").exists()
    monkeypatch.delenv("GOT_BENCHMARKS")
    assert "GOT_BENCHMARKS is not set" in got(*call).err


def test_edits_lack_dino(got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path,
                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    shutil.copytree(place, tmp_path / "place")
    shutil.rmtree(tmp_path / "place/networks/dino-vits16")
    monkeypatch.setenv("GOT_BENCHMARKS", str(tmp_path / "place"))
    done = got(
        "score", "judge", "-b", "emu_edit/base", "--pictures", drawn("emu_edit/base"), "-o", tmp_path / "o"
    )
    assert done.status == 1 and "networks/dino-vits16 is missing" in done.err


def test_generations_of_others(got: Got, place: Path, tmp_path: Path) -> None:
    rows = [emu_row(number) for number in range(EDITS)]
    made = [generation(row, 50 + row["idx"], model) for row in rows for model in ("Emu", "Other")]
    write_parquet(tmp_path / "made/data/validation-00000-of-00001.parquet", made)
    call = ("score", "judge", "-b", "emu_edit/base", "--pictures", tmp_path / "made", "-o", tmp_path / "out")
    both = got(*call)
    assert both.status == 1 and "holds edits of Emu, Other: choose one of these models" in both.err
    done = got(*call, "--called", "Emu", "--json")
    assert done.status == 0, done.err
    assert done.json["drawn"]["model"] == "Emu" and done.json["of"] == f"{EDITS} / {EDITS}"
    assert any("joined on idx and hash" in note for note in done.json["notes"])
    assert "joined on idx and hash" in got("score", "report", tmp_path / "out").out


@pytest.mark.slow
def test_steps_by_way_of_a_bucket(
    got: Got, place: Path, model: Path, tmp_path: Path, s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_S3_ENDPOINT", s3_server.url)
    pictures = f"s3://{s3_server.bucket}/pictures/edits"
    names = ("emu_edit/base", "--pictures", pictures)
    drawn = got("score", "generate", "-b", *names, "--model", model, *FEW, "--json")
    assert drawn.status == 0, drawn.err
    assert drawn.json["drawn"] == EDITS
    assert got("score", "generate", "-b", *names, "--model", model, *FEW, "--json").json["drawn"] == 0
    judged = got("score", "judge", "-b", *names, "--json")
    assert judged.status == 0, judged.err
    scores = f"{pictures}-scores"
    (one,) = got("score", "report", scores, "--json").json["benchmarks"]
    assert one["tables"][0]["rows"][0]["url"] == f"{scores}/emu_edit_base/scores.json"
    assert one["tables"][0]["rows"][0]["seconds"] > 0
    model_url = f"s3://{s3_server.bucket}/models/tiny"
    Storage(f"s3://{s3_server.bucket}/models", endpoint_url=s3_server.url).upload(model, "tiny")
    again = got("score", "generate", "-b", *names, "--model", model_url, *FEW, "--json")
    assert again.status == 0, again.err
    assert again.json["drawn"] == 0, "the same weights by another name"


@pytest.mark.slow
def test_plans_on_and_off_share_a_table(
    got: Got, place: Path, model: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    without = tmp_path / "off"
    call = ("score", "generate", "-b", "geneval", "--model", model, "--pictures", without, *FEW)
    assert got(*call, "--no-plan").status == 0
    on, off = tmp_path / "scores/on", tmp_path / "scores/off"
    for pictures, out in ((drawn("geneval"), on), (without, off)):
        assert got("score", "judge", "-b", "geneval", "--pictures", pictures, "--out", out).status == 0
    theirs = copied(without, tmp_path / "theirs")
    shutil.rmtree(theirs / ".got")
    base = tmp_path / "base"
    judged = got(
        "score", "judge", "-b", "geneval", "--pictures", theirs, "--out", base, "--called", "SDXL", "--json"
    )
    assert judged.json["drawn"] == {
        "pictures": f"file://{theirs}", "model": "SDXL", "weights_hash": None, "plan": None, "dtype": None,
        "costs": None,
    }  # fmt: skip
    report = got("score", "report", tmp_path / "scores", "--base", base, "--json").json
    (one,) = report["benchmarks"]
    assert len(one["tables"]) == 2, "the sampler of other people's pictures is not known"
    table = one["tables"][0]
    assert table["plans_compared"] and [row["plan"] for row in table["rows"]] == [False, True]
    (difference,) = table["differences"]
    means = [row["figures"]["overall"]["mean"] for row in table["rows"]]
    assert difference["figures"]["overall"] == pytest.approx(means[1] - means[0])
    assert any(line.startswith("sampler") for line in one["unlike"][0]["why"])
    text = got("score", "report", tmp_path / "scores").out
    assert "without plans" in text and "differ in whether the model drew from plans" in text
    assert "GoT: overall 0.64 (published, not measured here)" in text


@pytest.mark.slow
def test_scores_by_other_networks_do_not_stand_side_by_side(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    pictures = drawn("geneval")
    judge = ("score", "judge", "-b", "geneval", "--pictures", pictures)
    assert got(*judge, "--out", tmp_path / "a").status == 0
    assert got(*judge, "--out", tmp_path / "b", "--dtype", "bfloat16").status == 0
    taken = got(*judge, "--out", tmp_path / "a", "--dtype", "bfloat16")
    assert taken.status == 1 and "another protocol" in taken.err and "--out" in taken.err
    (tmp_path / "a/scores.json").write_text("{")
    assert got(*judge, "--out", tmp_path / "a").status == 0, "damaged scores are made anew"
    report = got("score", "report", tmp_path / "a", tmp_path / "b")
    assert report.status == 0 and "not side by side" in report.out
    assert 'networks.detector.settings.dtype: "float32" and "bfloat16"' in report.out


def test_saved_detections_need_neither_networks_nor_pictures(
    got: Got, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_BENCHMARKS", str(write_data(tmp_path / "place")))
    rows = [
        {"prompt_index": prompt, "image_index": image,
         "detections": [{"class": "dog", "score": 0.9, "box": [1, 1, 9, 9]}]}
        for prompt in range(6) for image in range(4)
    ]  # fmt: skip
    found = tmp_path / "found.jsonl"
    found.write_text("\n".join(map(json.dumps, rows)))
    call = ("score", "judge", "-b", "geneval", "--detections", found)
    assert got(*call).status == 2
    unnamed = got(*call, "--out", tmp_path / "out")
    assert unnamed.status == 1 and "does not say what found its detections" in unnamed.err
    done = got(*call, "--out", tmp_path / "out", "--detector", "mmdet", "--called", "Other", "--json")
    assert done.status == 0, done.err
    assert done.json["tasks"]["single_object"]["mean"] == 1
    assert done.json["protocol"].startswith("geneval/saved/")
    both = got(*call, "--out", tmp_path / "out", "--scene-reader")
    assert both.status == 2 and "two detectors" in both.err


@pytest.mark.slow
def test_workers_draw_and_judge_the_same(
    got: Got, place: Path, model: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    call = ("score", "generate", "-b", "emu_edit/base", "--model", model, "--pictures", tmp_path / "made")
    done = got(*call, *FEW, "--workers", 2, "--device", "cpu", "--json")
    assert done.status == 0, done.err
    assert done.json["drawn"] == EDITS and done.json["costs"]["pictures"] == EDITS
    for path in drawn("emu_edit/base").glob("*.png"):
        ours, theirs = (np.asarray(Image.open(one), float) for one in (tmp_path / "made" / path.name, path))
        assert np.abs(ours - theirs).max() <= 1, "but for rounding"
    judge = ("score", "judge", "-b", "emu_edit/base", "--pictures", tmp_path / "made", "--json")
    there = got(*judge, "--out", tmp_path / "there", "--workers", 2, "--device", "cpu")
    assert there.status == 0, there.err
    here = got(*judge, "--out", tmp_path / "here", "--device", "cpu")
    assert there.json["protocol_digest"] == here.json["protocol_digest"]
    assert there.json["overall"] == pytest.approx(here.json["overall"], abs=1e-6)


def test_workers_need_networks(got: Got, place: Path, tmp_path: Path) -> None:
    done = got("score", "judge", "-b", "geneval", "--pictures", tmp_path, "-o", tmp_path.parent / "o",
               "--scene-reader", "--workers", 2)  # fmt: skip
    assert done.status == 1 and "workers would have nothing to do" in done.err


@pytest.mark.slow
def test_a_checkpoint_in_the_released_layout_draws_the_same(got: Got, place: Path, tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "saved")
    save_got_checkpoint(pipeline, tmp_path / "released")
    for name in ("saved", "released"):
        call = (
            "score",
            "generate",
            "-b",
            "geneval",
            "--model",
            tmp_path / name,
            "--pictures",
            tmp_path / f"of-{name}",
        )
        done = got(*call, *FEW)
        assert done.status == 0, done.err
    pixels = [
        Image.open(tmp_path / f"of-{name}" / "00000/samples/00000.png").tobytes()
        for name in ("saved", "released")
    ]
    assert pixels[0] == pixels[1]


def test_wrong_names_and_calls(got: Got, place: Path, model: Path, tmp_path: Path) -> None:
    for step in ("generate", "judge"):
        done = got("score", step, "-b", "genevl", "--pictures", tmp_path / "pictures")
        assert done.status == 2
        assert "there is no benchmark genevl; there are geneval, emu_edit/base" in done.err
        assert "geneval/scenes, edits/scenes" in done.err
    assert got("score", "fetch-list", "-b", "genevl").status == 2
    infinite = got("score", "generate", "-b", "geneval", "--pictures", tmp_path / "p", "--text-scale", "nan")
    assert infinite.status == 2 and "--text-scale must be a finite number, got nan" in infinite.err
    nowhere = got("score", "generate", "-b", "geneval", "--model", "nowhere", "--pictures", tmp_path / "p")
    assert nowhere.status == 1 and "nowhere is not there" in nowhere.err
    empty = got("score", "judge", "-b", "emu_edit/base", "--pictures", tmp_path / "p")
    assert empty.status == 1 and "holds no pictures" in empty.err
    inside = got("score", "judge", "-b", "geneval", "--pictures", tmp_path, "--out", tmp_path / "scores")
    assert inside.status == 1 and "would be taken for pictures" in inside.err
    plans = got("score", "judge", "-b", "geneval/scenes", "--pictures", tmp_path)
    assert plans.status == 1 and "has no record of its drawing" in plans.err


def test_pictures_of_another_benchmark_or_recipe(
    got: Got, place: Path, drawn: Callable[[str], Path], tmp_path: Path
) -> None:
    done = got("score", "judge", "-b", "emu_edit/base", "--pictures", drawn("geneval"), "-o", tmp_path / "o")
    assert done.status == 1 and "holds pictures for published/geneval" in done.err
    pictures = drawn("geneval/scenes")
    done = got("score", "judge", "-b", "geneval/scenes", "--pictures", pictures, "-o", tmp_path / "o",
               "--recipe", "embedded")  # fmt: skip
    assert done.status == 1 and "take --recipe tiny" in done.err
    done = got(
        "score", "judge", "-b", "geneval/scenes", "--pictures", pictures, "-o", tmp_path / "o", "--no-plan",
        "--recipe", "tiny",
    )  # fmt: skip
    assert done.status == 1 and "was drawn with plans" in done.err
    assert (pictures / RECORD).is_file()


def test_fetch_list(got: Got, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = got("score", "fetch-list")
    assert plain.status == 0 and "GOT_BENCHMARKS is not set" in plain.out
    for part in (
        "evaluation_metadata.jsonl",
        "CC-BY-NC 4.0",
        "huggingface.co/facebook/dino-vits16",
        "SHA-256",
    ):
        assert part in plain.out
    monkeypatch.setenv("GOT_BENCHMARKS", str(write_data(tmp_path / "place")))
    files = got("score", "fetch-list", "-b", "geneval", "-b", "emu_edit/base", "--json").json["files"]
    states = {one["path"]: one["state"] for one in files}
    assert states["geneval/evaluation_metadata.jsonl"] == "another"
    assert states["emu_edit_test_set"] == "there" and states["networks/dino-vits16"] == "missing"
    assert {tuple(one["benchmarks"]) for one in files} == {("geneval",), ("emu_edit/base",)}


def test_what_is_no_scores_is_named(got: Got, tmp_path: Path) -> None:
    missing = got("score", "report", tmp_path / "nothing")
    assert missing.status == 1 and "nothing/scores.json is not there" in missing.err
    (tmp_path / "scores.json").write_text("[]")
    assert "holds no scores of a benchmark" in got("score", "report", tmp_path).err
    record = {"name": "geneval", "version": 1}
    scores = {
        "protocol": "geneval", "protocol_digest": digest_of({**record, "version": 2}),
        "protocol_record": record, "overall": 0.5, "tasks": {}, "complete": True,
    }  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    assert "was changed by hand" in got("score", "report", tmp_path / "scores.json").err
