"""`got why` as a person sees it; what it finds: `inference/test_why`."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.geneval2.viewers import MODEL, looking
from tests.got_core.evaluate.judged.made import looking as scoring
from tests.got_core.evaluate.published.downloads import write_data
from tests.got_core.evaluate.tiny_networks import save_clip, save_dino
from tests.got_core.inference.why_home import WEIGHTS, Made, make_home

from .conftest import Result

Got = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[3]
BAD = "geneval/scenes/00003"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_home(tmp_path_factory.mktemp("why") / "home")


@pytest.fixture
def filled(made: Made, home: Path) -> Path:
    """GOT_HOME with data, a model and its scores."""
    shutil.copytree(made.home, home, dirs_exist_ok=True)
    return home


def test_one_sample_in_words(got: Got, filled: Path) -> None:
    done = got("why", BAD)
    assert done.status == 0, done.err
    assert done.out.startswith(f"{BAD}: wrong (")
    labels = [line[:10].strip() for line in done.out.splitlines() if line[:1].strip()]
    wanted = [
        "verdict",
        "prompt",
        "asks for",
        "plan",
        "seed",
        "picture",
        "found",
        "protocol",
        "model",
        "training",
    ]
    assert labels[1:] == wanted
    assert "models:/got/2 (champion)" in done.out and "trained on" in done.out
    assert all(len(line) <= 80 or "/" in line for line in done.out.splitlines())


def test_several_samples_as_json_and_on_a_sheet(got: Got, filled: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "why.png"
    done = got("why", BAD, "edits/scenes/1", "--near", 2, "--picture", sheet, "--json")
    assert done.status == 0, done.err
    first, second = done.json
    assert first["address"] == BAD and second["source"]["true_chain"]
    assert len(first["training"]["neighbours"]) == 2
    assert Image.open(sheet).size[0] > 6 * 256
    assert got("why", BAD, "--json").json["model"]["weights_hash"] == WEIGHTS
    refused = got("why", BAD, "--picture", tmp_path / "why.txt")
    assert refused.status == 2 and "ends in .png" in refused.err


def test_failing_cells(got: Got, filled: Path) -> None:
    done = got("why", "--failed", "geneval/scenes", "-n", 2)
    assert done.status == 0, done.err
    assert "the first 2" in done.out.splitlines()[0]
    address = done.out.splitlines()[1].split()[0]
    assert got("why", address).status == 0
    found = got("why", "--failed", "edits/scenes", "--task", "move", "--json").json
    assert [one["task"] for one in found["cells"]] == ["move"] * found["failed"]
    assert got("why", "--failed", "geneval/scenes", "--cause", "luck").status == 1


def test_wrong_calls_are_one_sentence(got: Got, filled: Path) -> None:
    assert got("why").status == 2 and got("why", BAD, "--failed", "geneval/scenes").status == 2
    assert got("why", BAD, "--task", "move").status == 2
    assert got("why", "--failed", "geneval/scenes", "--picture", "x.png").status == 2
    for arguments in ([f"{BAD}9"], ["scenes/1"], [BAD, "--model", "nobody"], ["geneval/1"], ["gone.png"]):
        done = got("why", *arguments)
        assert done.status == 1 and len(done.err.splitlines()) == 1 and not done.out, arguments


def test_nothing_heavy_is_loaded(filled: Path) -> None:
    code = (
        "import sys; from got_assets.cli import main; status = main(['why', 'geneval/scenes/3']); "
        "heavy = ('torch', 'mlflow', 'dagster', 'ray', 'transformers', 'diffusers', 'sqlalchemy', 'pandas'); "
        "sys.exit(status or ', '.join(one for one in heavy if one in sys.modules) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=filled, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# -- published benchmarks, whose pictures say themselves how they were drawn ----------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GOT_BENCHMARKS."""
    place = write_data(tmp_path / "place")
    monkeypatch.setenv("GOT_BENCHMARKS", str(place))
    return place


def drawn(got: Got, benchmark: str, model: Path, pictures: Path) -> None:
    call = ["score", "generate", "-b", benchmark, "--model", model, "--pictures", pictures]
    done = got(*call, "--steps", 1, "--max-new-tokens", 4)
    assert done.status == 0, done.err


@pytest.mark.slow
def test_geneval_from_saved_detections(
    got: Got, filled: Path, model: Path, place: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    drawn(got, "geneval", model, pictures)
    names = sorted(pictures.glob("*/samples/*.png"))
    prompts = [json.loads(line) for line in (place / "geneval/evaluation_metadata.jsonl").open()]
    cls = prompts[0]["include"][0]["class"]
    found = [{"class": cls, "score": 0.95, "box": [1, 2, 30, 40], "color": "red"}]
    lines = [
        {"prompt_index": int(name.parts[-3]), "image_index": int(name.stem), "detections": found}
        for name in names
    ]
    saved = tmp_path / "found.jsonl"
    saved.write_text("".join(f"{json.dumps(one)}\n" for one in [{"detector": {"name": "mine"}}, *lines]))
    judged = got("score", "judge", "-b", "geneval", "--pictures", pictures, "--detections", saved)
    assert judged.status == 0, judged.err
    scores = tmp_path / "pictures-scores" / "geneval"
    one = got("why", "geneval/0-0", "--model", scores, "--json").json
    assert one["picture"]["url"] == f"file://{names[0]}" and one["prompt"] == prompts[0]["prompt"]
    assert one["found"][0]["name"] == cls and one["found"][0]["box"] == [1, 2, 30, 40]
    assert one["plan"]["chain"] is not None and one["plan"]["correct"] is not None and one["seed"] is not None
    assert one["protocol"]["judge"].startswith("mine") and len(one["training"]["neighbours"]) == 5
    assert one["model"]["name"] == str(model) and "what these weights were trained on" in str(one["model"])
    by_file = got("why", names[0], "--json").json
    assert (by_file["address"], by_file["verdict"]) == (one["address"], one["verdict"])
    shutil.move(pictures, tmp_path / "away")
    gone = got("why", "geneval/0-0", "--model", scores, "--json").json
    assert gone["picture"]["state"] == "gone" and gone["plan"]["chain"] == one["plan"]["chain"]


@pytest.mark.slow
def test_figures_of_an_edit_with_its_source(
    got: Got, filled: Path, model: Path, place: Path, tmp_path: Path
) -> None:
    save_clip(place / "networks/clip-vit-base-patch32")
    save_dino(place / "networks/dino-vits16")
    pictures = tmp_path / "edits"
    drawn(got, "emu_edit/base", model, pictures)
    judged = got("score", "judge", "-b", "emu_edit/base", "--pictures", pictures)
    assert judged.status == 0, judged.err
    scores = tmp_path / "edits-scores" / "emu_edit_base"
    listed = got("why", "--failed", "emu_edit/base", "--model", scores, "--json").json
    values = [one["value"] for one in listed["cells"]]
    assert len(listed["cells"]) == listed["of"] and values == sorted(values, key=lambda one: one or 0)
    sheet = tmp_path / "sheet.png"
    address = listed["cells"][0]["address"]
    one = got("why", address, "--model", scores, "--picture", sheet, "--json").json
    assert one["verdict"]["state"] == "measured" and one["verdict"]["figures"]["clip_t"] is not None
    assert one["picture"]["state"] == "there" and one["source"]["steps"] and one["source"]["sha256"]
    assert one["plan"]["chain"] is not None and Image.open(sheet).width > 2 * 256
    figure = got("why", f"{address}/clip_t", "--model", scores, "--json").json
    assert (figure["figure"], figure["sample_id"]) == ("clip_t", one["sample_id"])


@pytest.mark.slow
def test_answers_in_the_judge_s_words(
    got: Got, filled: Path, model: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    drawn(got, "geneval2", model, pictures)
    with ChatServer(looking) as server:
        monkeypatch.setenv("GOT_JUDGE_URL", server.url)
        monkeypatch.setenv("GOT_JUDGE_MODEL", MODEL)
        assert got("score", "judge", "-b", "geneval2", "--pictures", pictures).status == 0
    scores = tmp_path / "pictures-scores" / "geneval2"
    one = got("why", "geneval2/1", "--model", scores, "--json").json
    table = pl.read_parquet(scores / "verdicts.parquet")
    row = table.row(1, named=True)
    assert [answer["question"] for answer in one["judged"]["answers"]] == [
        a["question"] for a in row["answers"]
    ]
    assert one["verdict"]["value"] == row["gm"] and MODEL in one["protocol"]["judge"]
    assert "expected:" in got("why", "geneval2/1", "--model", scores).out
    data = Path(one["picture"]["url"].removeprefix("file://")).read_bytes()
    assert Image.open(io.BytesIO(data)).width == one["picture"]["width"]


@pytest.mark.slow
def test_a_judge_s_reply_about_an_edit(
    got: Got, filled: Path, model: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "edits"
    drawn(got, "imagenhub", model, pictures)
    with ChatServer(scoring) as server:
        monkeypatch.setenv("GOT_JUDGE_URL", server.url)
        monkeypatch.setenv("GOT_JUDGE_MODEL", MODEL)
        judged = got("score", "judge", "-b", "imagenhub", "--pictures", pictures)
        assert judged.status == 0, judged.err
    scores = tmp_path / "edits-scores" / "imagenhub"
    listed = got("why", "--failed", "imagenhub", "--model", scores, "--json").json
    assert listed["failed"] == listed["of"] == 4, "a benchmark without verdicts lists the lowest first"
    address = listed["cells"][0]["address"]
    one = got("why", address, "--model", scores, "--picture", tmp_path / "sheet.png", "--json").json
    (answer,) = one["judged"]["answers"]
    assert "because" in answer["reply"] and one["judged"]["judge"] == MODEL and one["judged"]["asked"]
    assert one["verdict"]["value"] is not None and {"success", "restraint"} <= set(one["verdict"]["figures"])
    assert one["prompt"].startswith("make it grey") and one["source"]["steps"] == [one["prompt"]]
    assert one["picture"]["state"] == "there" and one["plan"]["chain"] is not None and one["seed"] is not None
    monkeypatch.delenv("GOT_BENCHMARKS")
    away = got("why", address, "--model", scores, "--json").json
    assert "set GOT_BENCHMARKS" in str(away["source"]["missing"]) and away["source"]["what"]
