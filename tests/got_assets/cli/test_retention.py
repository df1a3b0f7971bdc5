"""`got gc`: what it prints, what it leaves, and when it removes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from got_core.conditional_files import conditional_files
from got_core.leases import LeaseConfig, Leases, path_of
from got_core.storage import Storage
from tests.got_core.retention.homes import Home, random_home

from .conftest import Result

Got = Callable[..., Result]


@pytest.fixture
def filled(home: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home at random, of which everything that nothing names may go at once, but what needs a day."""
    for name in ("MODELS", "BENCHMARKS", "CHECKPOINTS", "FAILURES"):
        monkeypatch.setenv(f"GOT_KEEP_{name}", "0")
    (home / "mlflow").mkdir(parents=True)
    made = Home(Storage(f"file://{home / 'storage'}"), f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    random_home(made, 4)
    of_a_day = {one for one in made.may_go if one.startswith(("training_shards/", "preflight/"))}
    made.may_go -= of_a_day
    made.needed |= of_a_day
    return made


def leased(home: Home) -> Leases:
    return Leases(conditional_files(home.storage.url, {}), "a test")


def content(home: Home) -> set[str]:
    return {name for name in home.names() if not name.startswith("leases/")}


def test_the_dry_run_shows_and_touches_nothing(got: Got, filled: Home) -> None:
    before = {name: home_bytes(filled, name) for name in filled.names()}
    done = got("gc")
    assert done.status == 0
    assert "models: nothing names it, not changed for 0 days" in done.out
    assert "not recognised, never touched (" in done.out and "got gc --delete removes them" in done.out
    assert {name: home_bytes(filled, name) for name in filled.names()} == before
    found = got("gc", "--json").json
    assert sum(row["files"] for row in found["goes"]) == len(filled.may_go)
    assert found["registered_versions"] == filled.versions and "freed" not in found


def home_bytes(home: Home, name: str) -> bytes:
    return home.storage.read_bytes(name)


def test_it_removes_what_the_dry_run_has_shown(got: Got, filled: Home) -> None:
    shown = got("gc", "--json").json
    done = got("gc", "--delete", "--json")
    assert (done.status, done.json["goes"]) == (0, shown["goes"])
    freed = done.json["freed"]
    assert (freed["files"], freed["faults"]) == (len(filled.may_go), {})
    assert freed["bytes"] == sum(row["bytes"] for row in shown["goes"])
    assert content(filled) == {one for one in filled.needed if not one.startswith("leases/")}
    assert got("gc", "--delete").out.endswith("freed 0 bytes, 0 files\n")


def test_without_a_registry_nothing_is_removed(
    got: Got, filled: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_MLFLOW_URI", "http://127.0.0.1:9")
    before = filled.names()
    done = got("gc", "--delete")
    assert done.status == 1 and len(done.err.splitlines()) == 1
    assert "could not be asked" in done.err and "nothing is deleted" in done.err
    assert content(filled) == {one for one in before if not one.startswith("leases/")}


@pytest.mark.parametrize("lease", ["finetuned_model", "asset_of_another_recipe"])
def test_while_a_run_makes_a_model_models_stay(got: Got, filled: Home, lease: str) -> None:
    with leased(filled).held(lease):
        assert f"{lease} is being worked on by a test" in got("gc").out
        done = got("gc", "--delete")
    assert done.status == 0 and f"stay for now: {lease} is being worked on by a test" in done.err
    gone = {one for one in filled.may_go if one not in filled.names()}
    assert {name.partition("/")[0] for name in gone} == {"failures"}
    got("gc", "--delete")
    assert not filled.may_go & filled.names()


def test_who_shows_no_life_on_another_machine_keeps_nothing(
    got: Got, filled: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    import got_assets.retention as retention

    config = LeaseConfig(beat_seconds=0.3, expiry_seconds=1.0, look_seconds=0.1)
    files = conditional_files(filled.storage.url, {})
    monkeypatch.setattr(retention, "leases_for", lambda _, work, notice: Leases(files, work, config, notice))
    process = {"host": "elsewhere", "boot": "b", "pid": 1, "started": 1}
    holder = {"process": process, "work": "got run", "since": "2026-01-01", "id": "1"}
    filled.storage.write_json(path_of("promoted_model"), {"holder": holder, "beat": 1})
    done = got("gc", "--delete")
    assert "whether it still works" in done.err and not filled.may_go & filled.names()


def test_a_shard_that_is_worked_on_does_not_keep_models(got: Got, filled: Home) -> None:
    with leased(filled).held("images-00000"):
        got("gc", "--delete")
    assert not filled.may_go & filled.names()


def test_tars_without_index_go_unless_their_shard_is_worked_on(
    got: Got, filled: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    import got_core.retention.plan as plan

    monkeypatch.setattr(plan, "UNFINISHED_DAYS", 0.0)
    lost = [one for one in filled.names() if one.endswith(".tar")]
    assert len(lost) == 3
    with leased(filled).held("images-00000"):
        done = got("gc", "--delete")
        assert "tars of images-00000 stay for now" in done.err
    assert len([one for one in filled.names() if one.endswith(".tar")]) == 2
    got("gc", "--delete")
    index = filled.storage.read_table("training_shards/images-00000/00000")
    assert [one for one in filled.names() if one.endswith(".tar")] == index["tar"].to_list()


def test_a_file_that_cannot_be_removed_is_told(
    got: Got, filled: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = next(one for one in sorted(filled.may_go) if one.endswith(".png"))
    unlink = os.unlink

    def refuse(path: Path | str) -> None:
        if str(path).endswith(stuck):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    done = got("gc", "--delete")
    assert done.status == 1 and f"1 files could not be deleted, first {stuck}: Permission denied" in done.out
    assert filled.may_go & filled.names() == {stuck}


def test_ages_are_settings(got: Got, filled: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_KEEP_BENCHMARKS", "inf")
    kinds = {row["kind"] for row in got("gc", "--json").json["goes"]}
    assert "models" in kinds and "benchmark pictures" not in kinds
    monkeypatch.setenv("GOT_KEEP_MODELS", "-1")
    assert "GOT_KEEP_MODELS is '-1'" in got("gc").err


def test_an_empty_home(got: Got) -> None:
    done = got("gc", "--delete")
    assert done.status == 0 and "freed 0 bytes, 0 files" in done.out
