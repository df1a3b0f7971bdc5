"""A page with the champion beside the candidate, and where MLflow keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.evaluate.plans import plans_of_rows
from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.registry.reporting import ReportMaker, log_report, plans_of
from got_core.registry.results import EXPERIMENT, BenchmarkResult, log_results
from got_core.registry.standing import Standing, standing_at
from got_core.registry.tracking import connect, ensure_experiment
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.report.painted import CONFIG, GENEVAL, painted_run

OWN, OTHER = "b" * 64, "a" * 64


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"


def test_the_page_is_logged_once_and_found_by_its_weights(uri: str) -> None:
    files = {"benchmark_report.html": b"<html>", "plans-geneval-scenes.jsonl": b"{}\n"}
    first = log_report(uri, OWN, files)
    assert log_report(uri, OWN, files | {"benchmark_report.html": b"<html>2"}) == first
    other = log_report(uri, OTHER, files)
    client = connect(uri)
    assert other != first and client.get_run(first).data.tags["weights_hash"] == OWN
    assert {one.path for one in client.list_artifacts(first)} == set(files)
    page = client.download_artifacts(first, "benchmark_report.html")
    assert Path(page).read_bytes() == b"<html>2" and client.get_run(first).info.status == "FINISHED"


def test_plans_are_logged_with_the_results(uri: str) -> None:
    client = connect(uri)
    run = client.create_run(ensure_experiment(uri, EXPERIMENT)).info.run_id
    protocol = Protocol(name="geneval/scenes", version=1, aggregation={"overall": "mean"})
    scores: dict[str, Any] = {**protocol_figures(protocol), "overall": 0.5, "tasks": {}}
    plans = plans_of_rows(pl.DataFrame({"sample_id": ["1"], "chain": ["a cat (1,2),(3,4)"]}))
    log_results(client, run, [BenchmarkResult(scores, None, plans)])
    assert {one.path for one in client.list_artifacts(run)} == {
        "scores-geneval-scenes.json", "plans-geneval-scenes.jsonl"
    }  # fmt: skip
    path = client.download_artifacts(run, "plans-geneval-scenes.jsonl")
    assert Path(path).read_bytes() == plans


def test_what_stands_beside_a_candidate(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}")
    made = painted_run(GENEVAL, storage, f"geneval/{OWN[:12]}", OWN, wrong=(0,))
    maker = ReportMaker(storage=storage, world=NARROW, config=CONFIG)
    names = ["geneval/scenes"]
    assert set(plans_of(storage, names, OWN)) == set(names) and plans_of(storage, names, OTHER) == {}
    plans = plans_of(storage, names, OWN)["geneval/scenes"].decode().splitlines()
    assert len(plans) == made.samples.height == 18

    def notes(champion: Standing | None) -> str:
        (section,) = maker.sections(OWN, names, champion)
        assert section.scores == made.scores and section.grid_png == made.grid_png
        assert section.pictures and section.sources is None
        return " ".join([*section.notes, *(one.label for one in section.beside)])

    assert notes(None) == "There is no champion yet to compare with."
    itself = Standing(version="3", weights_hash=OWN, results={})
    assert notes(itself) == "This model is the champion, version 3 itself."
    gone = Standing(version="3", weights_hash=OTHER, results={})
    assert "not in this storage, and the registry has no score" in notes(gone)
    registered = Standing(
        version="3", weights_hash=OTHER, results={"geneval/scenes": BenchmarkResult(made.scores)}
    )
    assert notes(registered).endswith("its figures are those of the registry. champion, version 3")
    painted_run(GENEVAL, storage, f"geneval/{OTHER[:12]}", OTHER)
    assert notes(gone) == "champion, version 3"
    with pytest.raises(FileNotFoundError, match="holds no result of edits/scenes"):
        maker.sections(OWN, ["edits/scenes"], None)


def test_an_alias_that_names_nothing(uri: str) -> None:
    assert standing_at("got", "champion", uri) is None
    client = connect(uri)
    client.create_registered_model("got")
    assert standing_at("got", "champion", uri) is None
    run = client.create_run(ensure_experiment(uri, EXPERIMENT)).info.run_id
    client.create_model_version("got", f"runs:/{run}/model", run_id=run, tags={"weights_hash": OWN})
    client.set_registered_model_alias("got", "champion", "1")
    assert standing_at("got", "champion", uri) == Standing(version="1", weights_hash=OWN, results={})
