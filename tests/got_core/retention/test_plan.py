"""What goes and what stays: homes at random, single reasons, and a registry that cannot be asked."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.frame_hash import content_hash
from got_core.registry.reference import RegistryUnavailableError
from got_core.retention.config import DAY, KeepConfig
from got_core.retention.plan import Look, Plan, make_plan
from got_core.retention.removal import remove_units
from got_core.storage import Storage

from .homes import Home, random_home, sha

PICTURES = ("geneval/", "edits/", "guidance/")


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a model: its first start takes seconds."""
    from got_core.registry.tracking import connect

    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    connect(f"sqlite:///{path}").search_model_versions()
    return path


@pytest.fixture
def home(storage: Storage, empty_registry: Path, tmp_path: Path) -> Home:
    shutil.copyfile(empty_registry, tmp_path / "mlflow.db")
    return Home(storage, f"sqlite:///{tmp_path / 'mlflow.db'}")


def planned(home: Home, days: float = 400, **more: Any) -> Plan:
    """The plan in so many days from now."""
    look = Look(tracking_uri=home.uri, assets={"captions"}, now=time.time() + days * DAY, **more)
    return make_plan(home.storage, look)


def going(plan: Plan) -> set[str]:
    return {file.name for unit in plan.going for file in unit.files}


@pytest.mark.parametrize("seed", range(6))
def test_of_random_homes_exactly_what_nothing_names_goes(home: Home, seed: int) -> None:
    random_home(home, seed)
    assert home.names() == home.needed | home.may_go
    plan = planned(home)
    assert going(plan) == home.may_go
    assert plan.versions == home.versions
    freed = remove_units(home.storage, plan.going)
    assert home.names() == home.needed
    assert (freed.files, freed.faults) == (len(home.may_go), {})
    assert planned(home).going == []


@pytest.mark.parametrize("seed", range(2))
def test_nothing_goes_before_its_age(home: Home, seed: int) -> None:
    random_home(home, seed)
    assert going(planned(home, days=0)) == set()
    assert not going(planned(home, days=8)) & {n for n in home.may_go if n.startswith(PICTURES)}
    forever = KeepConfig(models=float("inf"), benchmarks=float("inf"), checkpoints=0, failures=0)
    left = {name.partition("/")[0] for name in going(planned(home, days=10_000, keep=forever))}
    assert left <= {"failures", "preflight", "ray", "training_shards", "models"}


def test_a_version_that_is_deleted_lets_its_data_go(home: Home) -> None:
    models = [home.model(stage, stage, needed=True) for stage in ("pretrain", "finetune")]
    version = home.register(*models)
    assert not {one for one in going(planned(home)) if models[1]["folder"] in one}
    from got_core.registry.tracking import connect

    connect(home.uri).delete_model_version("got", version)
    assert home.needed <= going(planned(home))


def test_while_somebody_makes_models_nothing_of_theirs_goes(home: Home) -> None:
    random_home(home, 3)
    left = {name.partition("/")[0] for name in going(planned(home, at_work="got run makes models"))}
    assert left == {"failures", "preflight", "training_shards"}


def test_the_manifest_that_there_is_stays(home: Home) -> None:
    manifest = pl.DataFrame({"sample_id": ["a"]})
    home.storage.write_table("training_manifest", manifest)
    home.put(f"manifests/{content_hash(manifest)}.parquet", needed=True)
    home.put(f"manifests/{sha('older')}.parquet", needed=False)
    assert going(planned(home)) == home.may_go


def test_a_model_that_a_setting_names_stays(home: Home) -> None:
    folder = home.model("finetune", "mine", needed=False)["folder"]
    path = f"{home.storage.url.removeprefix('file://')}/{folder}"
    assert not [name for name in going(planned(home, named=[path])) if name.startswith("models/")]


def test_latents_stay_while_the_recipe_reads_them_or_a_training_may(home: Home) -> None:
    used, unused = f"latent_shards/{sha('a')[:12]}", f"latent_shards/{sha('b')[:12]}"
    for folder in (used, unused):
        home.put(f"{folder}/key.json", needed=folder == used)
        home.put(f"{folder}/images-00000/00000.parquet", needed=folder == used)
    home.document("latent_shards", {"latents": {used: {}}, "unused": [unused]})
    assert going(planned(home)) == home.may_go
    note = {"key": sha("k")[:12], "manifest_hash": sha("m"), "start": {}, "begun": "2026-01-01"}
    home.storage.write_json(f"models/pretrain/unfinished/{sha('i')[:12]}.json", note)
    assert going(planned(home)) == set()


def test_what_a_write_that_broke_off_left_goes_after_a_day(home: Home) -> None:
    root = Path(home.storage.url.removeprefix("file://"))
    folder = root / "models" / "finetune" / f".pipeline.{'a' * 12}.partial"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "w.safetensors").write_bytes(b"12345")
    (root / ".empty.0123.partial").mkdir()
    assert going(planned(home, days=0.9)) == set()
    plan = planned(home, days=1.1)
    assert sum(unit.name.endswith(".partial") for unit in plan.going) == 2
    remove_units(home.storage, plan.going)
    assert not folder.exists() and not (root / ".empty.0123.partial").exists()


def test_links_are_named_and_never_followed(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "finetune" / sha("x")[:12]
    elsewhere.mkdir(parents=True)
    (elsewhere / "w.safetensors").write_bytes(b"1")
    root = Path(home.storage.url.removeprefix("file://"))
    root.mkdir(parents=True)
    (root / "models").symlink_to(tmp_path / "elsewhere")
    plan = planned(home)
    assert (plan.going, plan.unknown) == ([], ["models"])


def test_what_is_not_recognised_is_counted(home: Home) -> None:
    home.put("holiday/picture.jpg", needed=True, data=b"123")
    home.put("captions/images-00000.parquet", needed=True)
    plan = planned(home)
    tally = plan.kept["not recognised", "never touched"]
    assert (plan.unknown, tally.units, tally.size) == (["holiday/picture.jpg"], 1, 3)


def test_a_document_that_cannot_be_read_stops_everything(home: Home) -> None:
    home.put("finetuned_model.json", needed=True, data=b"{")
    with pytest.raises(ValueError, match=r"finetuned_model\.json is not valid JSON"):
        planned(home)
    home.storage.write_json("finetuned_model.json", {})
    home.storage.write_json(f"models/pretrain/unfinished/{sha('i')[:12]}.json", {"begun": "x"})
    with pytest.raises(ValueError, match="is no record of a training"):
        planned(home)


def test_a_document_that_goes_between_the_listing_and_the_reading_names_nothing(home: Home) -> None:
    from got_core.retention.roots import Roots, add_stored

    roots, gone = Roots(), f"models/pretrain/unfinished/{sha('i')[:12]}.json"
    home.document("finetuned_model", {"folder": f"models/finetune/{sha('k')[:12]}/pipeline"})
    add_stored(roots, home.storage, [gone, "finetuned_model.json", "gone.json", "ablation_runs.parquet"])
    assert f"models/finetune/{sha('k')[:12]}" in roots.units


def test_a_registry_that_cannot_be_asked_stops_everything(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    home.model("finetune", "old", needed=False)
    for uri, said in (("http://127.0.0.1:9", "could not be asked"), (f"sqlite:///{tmp_path}/bad.db", "not")):
        (tmp_path / "bad.db").write_bytes(b"no database, " * 100)
        home.uri = uri
        with pytest.raises(RegistryUnavailableError, match=said) as caught:
            planned(home)
        assert "nothing is deleted" in str(caught.value)


def test_a_registry_that_lost_all_versions_is_taken_for_another_one(home: Home, tmp_path: Path) -> None:
    home.document("registered_model", {"name": "got", "version": "3"})
    with pytest.raises(RegistryUnavailableError, match="names version 3 of got, but the registry"):
        planned(home)
    home.uri = f"sqlite:///{tmp_path / 'nothing.db'}"
    with pytest.raises(RegistryUnavailableError, match="GOT_MLFLOW_URI"):
        planned(home)
    assert not (tmp_path / "nothing.db").exists()


@pytest.mark.parametrize("days", [-1.0, float("nan")])
def test_ages_are_checked(days: float) -> None:
    with pytest.raises(ValueError, match=r"KeepConfig\.models"):
        KeepConfig(models=days)
