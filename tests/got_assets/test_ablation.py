"""`make ablation` at the recipe `tiny`: from nothing to the table, and what a later one finds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from got_core.ablation.schemas import TABLE, TRIALS
from got_core.storage import Storage

ROOT = Path(__file__).resolve().parents[2]


def make_ablation(home: Path, **settings: str) -> str:
    """What the command says; its own process trains unless the settings say otherwise."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOT_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-m", "got_assets.cli", "ablation"],
        cwd=ROOT,
        env=kept
        | {"GOT_HOME": str(home), "GOT_RECIPE": "tiny", "OMP_NUM_THREADS": "1", "GOT_WORKERS": "0"}
        | settings,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Path, str]:
    """Storage and home of a finished ablation, and what it said."""
    home = tmp_path_factory.mktemp("ablation")
    said = make_ablation(home)
    return Storage(f"file://{home / 'storage'}"), home, said


@pytest.mark.slow
def test_rows_are_trained_from_the_same_foundation_and_scored(made: tuple[Storage, Path, str]) -> None:
    from got_core.model.pipeline import GoTPipeline

    storage, _, _ = made
    trials = storage.read_table("ablation_runs")
    assert dict(trials.schema) == {name: dtype for name, (dtype, _) in TRIALS.items()}
    baseline, got = trials.iter_rows(named=True)
    assert (baseline["row"], got["row"], baseline["seed"]) == ("baseline", "got", 0)
    assert (baseline["steps"], got["steps"]) == (2, 4)
    assert baseline["plans_right"] is None
    assert got["plans_right"] is not None
    for line in (baseline, got):
        assert line["pictures"] == 12
        assert 0.1 < line["cpu_seconds"] < 120
        names = storage.list(f"{line['samples']}/")
        drawn = [name.rpartition("/")[0] for name in names if re.fullmatch(r".*/\d{5}\.png", name)]
        assert sorted(drawn) == [line["samples"]] * 12 + [f"{line['samples']}/edits"] * 4
        assert line["edits"] is not None and (line["edit_plans_right"] is None) == (line["row"] == "baseline")
        config = GoTPipeline.from_pretrained(storage.download(line["model"])).config
        assert config.reasoning is config.spatial_guidance is (line["row"] == "got")


@pytest.mark.slow
def test_it_ends_with_the_table(made: tuple[Storage, Path, str]) -> None:
    storage, _, said = made
    table = storage.read_table("ablation")
    assert dict(table.schema) == {name: dtype for name, (dtype, _) in TABLE.items()}
    lines = [line for line in said.splitlines() if line.startswith(("baseline", "+ GoT pretraining"))]
    assert [line.split()[-1] for line in lines] == ["0.38", "0.64"]
    assert storage.read_bytes("ablation.png").startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_second_ablation_makes_nothing(made: tuple[Storage, Path, str]) -> None:
    said = make_ablation(made[1])
    assert "ablation_runs" not in said
    assert "+ GoT pretraining" in said


@pytest.mark.slow
def test_an_interrupted_run_is_scored_without_being_trained_again(made: tuple[Storage, Path, str]) -> None:
    storage, home, _ = made
    before = storage.read_table("ablation_runs")
    baseline, got = (f"{folder}/trial.json" for folder in before["samples"])
    storage.delete("ablation_runs")
    storage.delete(baseline)
    kept = storage.read_bytes(got)
    said = make_ablation(home)
    assert "ablation_runs (value lost)" in said
    assert "2 runs, of which 1 are finished" in said
    assert "step 2 of 2" not in said
    assert storage.read_table("ablation_runs").equals(before)
    assert storage.read_bytes(got) == kept


@pytest.mark.slow
def test_a_run_on_ray_is_trained_and_scored_as_by_this_process(made: tuple[Storage, Path, str]) -> None:
    storage, home, _ = made
    before = storage.read_table("ablation_runs")
    baseline = before.row(0, named=True)
    storage.delete("ablation_runs")
    for folder in (baseline["samples"], baseline["model"].removesuffix("/pipeline")):
        assert storage.list(f"{folder}/")
        storage.delete(folder)
    said = make_ablation(home, GOT_WORKERS="1")
    assert "2 runs, of which 1 are finished" in said
    assert "step 2 of 2" in said and "(raylet)" not in said
    assert storage.read_table("ablation_runs").drop("cpu_seconds").equals(before.drop("cpu_seconds"))
    assert not storage.list("ray/"), "checkpoints of finished runs are left behind"
