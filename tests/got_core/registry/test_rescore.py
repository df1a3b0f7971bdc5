"""A champion scored again under today's protocol: a real registry, pipeline and benchmarks, very small."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.evaluate.benchmarks import benchmarks_named, open_pipeline
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.published.cluster import Cluster
from got_core.registry.log import register
from got_core.registry.promote import FIGURES_TAG, REASON_TAG, PromotionDecision, promote
from got_core.registry.rescore import Scorer
from got_core.registry.results import SCORES_TAG, compact_scores, read_results
from got_core.registry.rule import fault_of
from got_core.registry.tracking import connect
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*"),
]

BEFORE = EvaluateConfig(
    images_per_task=1, edit_images=7, self_test=12, bootstrap=20, num_inference_steps=1, max_new_tokens=4
)
TODAY = replace(BEFORE, sampling_seeds=(3,))


class Home:
    """A registry, a storage, and a saved pipeline that serves as several models."""

    def __init__(self, root: Path) -> None:
        self.uri, self.folder = f"sqlite:///{root / 'mlflow' / 'mlflow.db'}", root / "model"
        self.artifacts = root / "mlflow" / "artifacts"
        self.storage = Storage(f"file://{root / 'storage'}")
        self.lines: list[str] = []
        tiny_pipeline().save_pretrained(self.folder)

    def scorer(self, config: EvaluateConfig) -> Scorer:
        return Scorer(world=NARROW, config=config, storage=self.storage, report=self.lines.append)

    def register(self, weights: str, config: EvaluateConfig) -> str:
        """Score and register the pipeline under these weights' name, as the graph does."""
        pipeline = open_pipeline(self.folder)
        chosen = benchmarks_named(config.benchmarks)
        made = [one.score(pipeline, NARROW, config, self.storage, weights) for one in chosen]
        outcomes = {b.name: b.outcomes(result.samples) for b, result in zip(chosen, made, strict=True)}
        scores, *others = [result.scores for result in made]
        tags = {"weights_hash": weights}
        return register(
            self.folder, tracking_uri=self.uri, scores=scores, others=others, outcomes=outcomes, tags=tags
        )

    def promote(self, config: EvaluateConfig) -> PromotionDecision:
        return promote(tracking_uri=self.uri, scorer=self.scorer(config))

    def champion(self) -> str:
        return str(connect(self.uri).get_model_version_by_alias("got", "champion").version)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("rescore"))
    assert made.register("w1", BEFORE) == "1"
    assert made.promote(BEFORE).reason == "there was no champion yet"
    assert made.register("w2", TODAY) == "2"
    return made


def test_a_champion_of_another_protocol_is_scored_again_first(home: Home) -> None:
    client = connect(home.uri)
    unscored = promote(tracking_uri=home.uri)
    assert "was made under protocol" in unscored.reason and "give promote() a scorer" in unscored.reason
    stale = promote(tracking_uri=home.uri, scorer=home.scorer(BEFORE))
    assert stale.reason.startswith(
        "version 2 cannot be compared: its result of geneval/scenes was made under"
    )
    before = json.loads(client.get_model_version("got", "1").tags[SCORES_TAG])
    decision = home.promote(TODAY)
    assert decision.scored_again == ["geneval/scenes", "edits/scenes"]
    # The same weights under two names: equal in every sample, so not better.
    assert not decision.promoted and "geneval/scenes/overall is not better" in decision.reason
    assert [row["difference"] for row in decision.benchmarks] == [0, 0]
    assert len(decision.tasks) == 12 and not any(row["lost"] or row["gained"] for row in decision.tasks)
    assert any("champion, edits/scenes: 7 of 7 scenes edited" in line for line in home.lines)
    version = client.get_model_version("got", "1")
    entries = json.loads(version.tags[SCORES_TAG])
    digests = {name: one["protocol_digest"] for name, one in entries.items()}
    assert digests == home.scorer(TODAY).protocols()
    run = client.get_run(entries["geneval/scenes"]["run_id"])
    assert (run.info.status, run.data.tags["model_version"]) == ("FINISHED", "1")
    assert run.data.metrics["edits/scenes/overall"] == entries["edits/scenes"]["overall"]
    old = client.get_run(before["geneval/scenes"]["run_id"])
    assert old.info.run_id == version.run_id != run.info.run_id, "what it scored before is kept"
    tags = client.get_model_version("got", "2").tags
    assert tags[REASON_TAG] == decision.reason and tags[FIGURES_TAG] == decision.markdown() != ""


def test_what_was_scored_again_is_not_scored_twice(home: Home) -> None:
    home.promote(TODAY)
    home.lines.clear()
    again = home.promote(TODAY)
    assert again.scored_again == [] and home.lines == []


def test_pictures_that_an_interrupted_run_drew_are_kept(home: Home) -> None:
    home.promote(TODAY)
    client = connect(home.uri)
    entries = json.loads(client.get_model_version("got", "1").tags[SCORES_TAG])
    legacy = json.dumps(
        {k: v for k, v in entries["geneval/scenes"].items() if k not in ("run_id", "outcomes")}
    )
    client.set_model_version_tag("got", "1", SCORES_TAG, legacy)
    held = read_results(client, client.get_model_version("got", "1"))
    assert [*held] == ["geneval/scenes"] and "no results by sample" in str(fault_of(held["geneval/scenes"]))
    home.lines.clear()
    decision = home.promote(TODAY)
    assert decision.scored_again == ["geneval/scenes", "edits/scenes"]
    assert "champion, geneval/scenes: 6 of 6 pictures drawn" in home.lines
    assert "champion, geneval/scenes: 0 of 6 pictures drawn" not in home.lines
    assert json.loads(client.get_model_version("got", "1").tags[SCORES_TAG]).keys() == entries.keys()


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_champion_that_cannot_be_scored_again_stays(home: Home, damage: str, tmp_path: Path) -> None:
    client = connect(home.uri)
    tags = client.get_model_version("got", "1").tags
    client.set_model_version_tag("got", "1", SCORES_TAG, "{}")
    (kept := tmp_path / "kept").mkdir()
    entry = Path(client.get_model_version_download_uri("got", "1").removeprefix("file://"))
    moved = entry if damage == "gone" else entry / "artifacts" / "model" / "unet"
    shutil.move(moved, kept / "it")
    try:
        decision = home.promote(TODAY)
    finally:
        shutil.move(kept / "it", moved)
        client.set_model_version_tag("got", "1", SCORES_TAG, tags[SCORES_TAG])
    message = "No such artifact" if damage == "gone" else "its model does not load"
    assert message in decision.reason and "move the alias champion of got by hand" in decision.reason
    assert "its result of edits/scenes is missing" in decision.reason
    assert (decision.promoted, decision.champion, home.champion()) == (False, "1", "1")


def test_damaged_outcomes_count_as_none(home: Home) -> None:
    client = connect(home.uri)
    version = client.get_model_version("got", "2")
    (file,) = home.artifacts.rglob(f"{version.run_id}/artifacts/outcomes-edits-scenes.json")
    data = file.read_text()
    for text in ("{", data.replace("true", "false", 1).replace("false", "true", 1) + " ", "[]"):
        file.write_text(text)
        held = read_results(client, version)["edits/scenes"]
        assert (held.outcomes is None) is (text != data + " ")
    file.write_text(data)
    held = read_results(client, version)["edits/scenes"]
    assert held.outcomes is not None and held.outcomes["cluster"].to_list() == [str(k) for k in range(7)]
    assert compact_scores(held.scores)["protocol"] == "edits/scenes"


def test_workers_of_a_cluster_see_a_copy_of_the_champion(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    alone, scorer = home.scorer(TODAY), replace(home.scorer(TODAY), cluster=Cluster(address="ray://a:1"))
    name = "published/geneval/0123456789ab/model"
    with alone._seen_by_workers(tmp_path, name) as model:
        assert model == tmp_path
    with scorer._seen_by_workers(tmp_path, name) as copy:
        assert copy == name and home.storage.exists(f"{name}/model_index.json")
    assert not home.storage.list("published/"), "nothing of it stays"
