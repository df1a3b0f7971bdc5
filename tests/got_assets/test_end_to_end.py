"""`make run` at the recipe `tiny`: from raw files to a registered model that another process draws with.

Real Dagster, Ray and MLflow, on seconds of training; the model has learned nothing and need not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from got_core.model.formats.foundation_folder import FoundationFolder

from .test_shown import MOST_BYTES, event_sizes

ROOT = Path(__file__).resolve().parents[2]

CONSUMER = """
import base64, io, sys
import mlflow, pandas, PIL.Image
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/got@champion")
out = model.predict(pandas.DataFrame({"prompt": ["a photo of a red circle"], "seed": [3]}))
image = PIL.Image.open(io.BytesIO(base64.b64decode(out["image"][0])))
assert image.size == (64, 64), image.size
assert isinstance(out["chain"][0], str)
print("loaded", [name for name in ("dagster", "ray") if name in sys.modules])
"""


def make_run(home: Path) -> str:
    """`got run` in a process of its own; what it said."""
    environment = {**os.environ, "GOT_HOME": str(home), "GOT_RECIPE": "tiny", "OMP_NUM_THREADS": "1"}
    environment.pop("DAGSTER_HOME", None)
    done = subprocess.run(
        [sys.executable, "-m", "got_assets.cli", "run"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def collect(home: Path) -> subprocess.CompletedProcess[str]:
    """`got gc --delete` of everything that nothing names, whatever its age."""
    ages = {f"GOT_KEEP_{name}": "0" for name in ("MODELS", "BENCHMARKS", "CHECKPOINTS", "FAILURES")}
    settings = {"GOT_HOME": str(home), "GOT_RECIPE": "tiny", "OMP_NUM_THREADS": "1", **ages}
    return subprocess.run(
        [sys.executable, "-m", "got_assets.cli", "gc", "--delete"],
        cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def collected(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str, list[subprocess.CompletedProcess[str]]]:
    """Home of a run beside which everything that nothing names was collected again and again, what the run
    said, and the collections."""
    home, folder = tmp_path_factory.mktemp("walk"), tmp_path_factory.mktemp("said")
    outside = ("GOT_", "DAGSTER_HOME", "RAY_ADDRESS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        run = subprocess.Popen(
            [sys.executable, "-m", "got_assets.cli", "run"],
            cwd=ROOT, env=kept | {"GOT_HOME": str(home), "GOT_RECIPE": "tiny", "OMP_NUM_THREADS": "1"},
            stdout=out, stderr=err,
        )  # fmt: skip
        done = []
        while run.poll() is None:
            done.append(collect(home))
            time.sleep(4)  # the run needs the cores, too
    said = (folder / "out").read_text()
    assert run.returncode == 0, said[-4000:] + (folder / "err").read_text()[-4000:]
    return home, said, done


@pytest.fixture(scope="module")
def walked(collected: tuple[Path, str, list[subprocess.CompletedProcess[str]]]) -> tuple[Path, str]:
    """Home of a finished run, and what the run said."""
    return collected[:2]


@pytest.mark.slow
def test_collecting_again_and_again_beside_a_run_succeeds_and_takes_nothing_from_it(
    collected: tuple[Path, str, list[subprocess.CompletedProcess[str]]],
) -> None:
    """That nothing was taken is what all tests below see, on the same home."""
    home, _, done = collected
    assert len(done) > 3 and not [one.stderr for one in done if one.returncode]
    assert "\n  0 tables, models and reports made" in make_run(home)


@pytest.mark.slow
def test_the_end_tells_scores_plans_and_what_training_took(walked: tuple[Path, str]) -> None:
    said = walked[1]
    assert re.search(r"geneval/scenes +score +95 % interval +plans +pictures", said)
    assert re.search(r"overall +[01]\.\d{3} +[01]\.\d{3} to [01]\.\d{3} +[01]\.\d{3} +12\b", said)
    assert "mean IoU of planned boxes with the true ones: 0." in said
    parts = re.search(
        r"training  (\d+) CPU-seconds \(foundation (\d+), pretraining (\d+), finetuning (\d+)\)", said
    )
    assert parts
    total, *stages = map(int, parts.groups())
    assert abs(total - sum(stages)) <= 2 and min(stages) > 0


@pytest.mark.slow
def test_every_event_is_small(walked: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(walked[0] / "dagster"))
    with dg.DagsterInstance.get() as instance:
        sizes = event_sizes(instance)
    assert {name for name, _ in sizes} >= {"raw_images", "foundation_models", "geneval", "registered_model"}
    assert {place: size for place, size in sizes.items() if size >= MOST_BYTES} == {}


@pytest.mark.slow
def test_the_table_accounts_for_every_row(walked: tuple[Path, str]) -> None:
    rows = {}
    for line in walked[1].splitlines():
        found = re.fullmatch(r"(\w+) +(\d+) +(\d+) +(\d+) +[\d.]+", line.strip())
        if found:
            rows[found[1]] = tuple(int(number) for number in found.groups()[1:])
    assert rows["raw_images"] == (48, 48, 0)
    assert rows["edit_pairs"] == (16, 16, 0)
    assert all(into == out + rejected for into, out, rejected in rows.values())
    assert rows["training_manifest"][0] == rows["t2i_selection"][1] + rows["edit_selection"][1]


@pytest.mark.slow
def test_what_is_left_in_storage(walked: tuple[Path, str]) -> None:
    from got_core.storage import Storage

    storage = Storage(f"file://{walked[0] / 'storage'}")
    model = storage.read_json("finetuned_model.json")
    manifest = storage.read_table("training_manifest")
    from got_core.frame_hash import content_hash

    assert model["manifest_hash"] == content_hash(manifest)
    assert storage.read_json("geneval.json")["weights_hash"] == model["weights_hash"]
    weights = [name for name in storage.list(f"{model['folder']}/") if name.endswith((".bin", ".pt", ".pkl"))]
    assert not weights
    page = storage.read_bytes("benchmark_report.html").decode()
    assert model["weights_hash"] in page and "geneval/scenes" in page
    assert "id='gallery-data'" in page and "got why geneval/scenes/00000" in page
    plans = storage.read_bytes(f"{storage.read_json('geneval.json')['prefix']}/plans.jsonl")
    assert len(plans.splitlines()) == 12
    assert storage.read_json("promoted_model.json")["champion"] == "1"


@pytest.mark.slow
def test_lineage_is_on_the_registered_version(walked: tuple[Path, str]) -> None:
    from got_core.registry.tracking import connect
    from got_core.storage import Storage

    model = Storage(f"file://{walked[0] / 'storage'}").read_json("finetuned_model.json")
    client = connect(f"sqlite:///{walked[0] / 'mlflow' / 'mlflow.db'}")
    version = client.get_model_version_by_alias("got", "challenger")
    for name in ("weights_hash", "manifest_hash"):
        assert version.tags[name] == model[name]
    with dg.DagsterInstance.from_config(str(walked[0] / "dagster")) as instance:
        run = instance.get_run_by_id(version.tags["dagster_run_id"])
        assert run is not None and run.asset_selection == {dg.AssetKey("registered_model")}
    assert version.tags["git_commit"]
    assert sum(one["rows"] for one in json.loads(version.tags["data_sets"])) > 0


@pytest.mark.slow
def test_a_fresh_process_draws_without_dagster_or_ray(walked: tuple[Path, str], tmp_path: Path) -> None:
    uri = f"sqlite:///{walked[0] / 'mlflow' / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, uri],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == "loaded []"


@pytest.mark.slow
def test_the_schedule_skips_what_is_up_to_date(walked: tuple[Path, str], load) -> None:
    graph = load(home=str(walked[0]))
    schedule = graph.run.defs.resolve_schedule_def("retrain_weekly")
    with (
        dg.DagsterInstance.from_config(str(walked[0] / "dagster")) as instance,
        dg.build_schedule_context(
            instance,
            repository_def=graph.run.defs.get_repository_def(),
            resources={"project": graph.project},
        ) as context,
    ):
        found = schedule(context)
    assert isinstance(found, dg.SkipReason), found
    assert found.skip_message == "nothing changed since the last model"


def draws(home: Path, folder: Path) -> None:
    """What is registered loads in another process and draws."""
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_a_finished_home_needs_nothing_that_goes(walked: tuple[Path, str], tmp_path: Path) -> None:
    home = walked[0]
    orphan = home / "storage" / "models" / "finetune" / "0123456789ab" / "metrics.json"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("{}")
    done = collect(home)
    assert done.returncode == 0 and "not recognised" not in done.stdout, done.stdout + done.stderr
    assert not orphan.parent.exists()
    draws(home, tmp_path)
    assert "\n  0 tables, models and reports made" in make_run(home)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_foundation_of_a_finished_home_is_scored_and_written_once(
    walked: tuple[Path, str], load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = load(home=str(walked[0]), foundation="train", parallel="1")
    from got_assets.foundation import make_foundation

    target = tmp_path / "weights"
    assert graph.run.main(partial(make_foundation, to=target)) == 0
    said, folder = capsys.readouterr().out, FoundationFolder(target)
    folder.check()
    start = graph.storage.read_json("foundation_models.json")
    assert folder.manifests() == [start["manifest_hash"]] and start["stage"] == "foundation"
    assert folder.manifest["rows"].keys() == {"t2i", "edit"} and folder.manifest["cpu_seconds"] > 0
    scores = folder.manifest["scores"]
    assert {"geneval/scenes: plans right", "edits/scenes: plans right"} <= scores.keys()
    assert "edits/scenes: right, guided by text encoder" in scores
    assert all(0 <= value <= 1 for value in scores.values())
    assert "foundation_models (" not in said and f"written to {target}" in said
    assert graph.run.main(partial(make_foundation, to=target)) == 0
    assert "pictures, " not in capsys.readouterr().out, "what was scored is not scored again"
    assert FoundationFolder(target).manifest["scores"] == scores
