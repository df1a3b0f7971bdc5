"""Versions without benchmarks, compared by their held-out loss in a real registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from got_core.evaluate.config import EvaluateConfig
from got_core.registry.held_out import HELD_OUT_TAG, LOSS, START_LOSS, HeldOut
from got_core.registry.log import CHALLENGER
from got_core.registry.promote import CHAMPION, REASON_TAG, PromotionDecision, promote
from got_core.registry.rescore import Scorer
from got_core.registry.tracking import connect
from got_core.scenes.world import NARROW
from got_core.storage import Storage


class Registry:
    """A registry of versions that are nothing but their tags."""

    def __init__(self, root: Path) -> None:
        self.uri = f"sqlite:///{root / 'mlflow.db'}"
        self.client = connect(self.uri)
        self.client.create_registered_model("got")
        config = EvaluateConfig(benchmarks=())
        self.scorer = Scorer(world=NARROW, config=config, storage=Storage(f"file://{root / 'storage'}"))

    def add(self, weights: str, held_out: HeldOut | str | None) -> PromotionDecision:
        """Register a challenger and promote it, if it may."""
        tags = held_out.tags() if isinstance(held_out, HeldOut) else {HELD_OUT_TAG: held_out or ""}
        made = self.client.create_model_version(
            "got", "file:///nowhere", tags={**tags, "weights_hash": weights}
        )
        self.client.set_registered_model_alias("got", CHALLENGER, made.version)
        decision = promote(tracking_uri=self.uri, scorer=self.scorer)
        assert self.client.get_model_version("got", made.version).tags[REASON_TAG] == decision.reason
        return decision

    def champion(self) -> str:
        return str(self.client.get_model_version_by_alias("got", CHAMPION).version)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_the_lower_loss_on_the_same_rows_is_champion(registry: Registry) -> None:
    assert registry.add("w1", HeldOut(loss=0.5, rows="a")).reason == "there was no champion yet"
    worse = registry.add("w2", HeldOut(loss=0.5, rows="a"))
    assert not worse.promoted and worse.reason == (
        "the held-out loss is not lower (0.5000 against 0.5000, on the same rows)"
    )
    better = registry.add("w3", HeldOut(loss=0.4, rows="a"))
    assert better.promoted and "lower (0.4000 against 0.5000, on the same rows)" in better.reason
    assert (better.champion, registry.champion()) == ("3", "3")
    same = registry.add("w3", HeldOut(loss=0.3, rows="a"))
    assert not same.promoted and "has the weights of champion version 3" in same.reason


def test_other_rows_are_compared_where_training_started_from_the_champion(registry: Registry) -> None:
    registry.add("w1", HeldOut(loss=0.1, rows="a"))
    other = registry.add("w2", HeldOut(loss=0.4, rows="b", start_loss=0.5, start_weights="w0"))
    assert not other.promoted and registry.champion() == "1"
    assert "champion version 1 has one on other rows, and version 2 did not start from it" in other.reason
    assert "move the alias champion of got to version 2 by hand" in other.reason
    worse = registry.add("w3", HeldOut(loss=0.6, rows="b", start_loss=0.5, start_weights="w1"))
    assert not worse.promoted and "not lower (0.6000 against 0.5000" in worse.reason
    better = registry.add("w4", HeldOut(loss=0.4, rows="b", start_loss=0.5, start_weights="w1"))
    assert better.promoted and "the champion's measured at the start of this training" in better.reason


@pytest.mark.parametrize("tag", [None, "{", "[]", '{"loss": "low", "rows": "a"}', '{"rows": "a"}'])
def test_a_version_without_a_loss_is_the_first_champion_and_replaces_none(
    registry: Registry, tag: str | None
) -> None:
    assert registry.add("w1", tag).promoted
    lacking = registry.add("w2", HeldOut(loss=0.1, rows="a"))
    assert not lacking.promoted and "champion version 1 has no held-out loss" in lacking.reason
    unknown = registry.add("w3", tag)
    assert not unknown.promoted and "and it has no held-out loss; look at pictures of both" in unknown.reason


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_never_champion(registry: Registry, loss: float) -> None:
    decision = registry.add("w1", HeldOut(loss=loss, rows="a"))
    assert not decision.promoted and f"version 1 has a held-out loss of {loss}" in decision.reason


def test_a_training_tells_its_loss_and_that_of_its_start() -> None:
    model: dict[str, Any] = {"metrics": {"loss": 1.0}, "manifest_hash": "m"}
    start = {"weights_hash": "w0"}
    assert HeldOut.of_training(model, start) is None
    model["metrics"] |= {LOSS: 0.4}
    assert HeldOut.of_training(model, start) == HeldOut(loss=0.4, rows="m", start_weights="w0")
    model = {"metrics": {LOSS: 0.4, START_LOSS: 0.5}, "manifest_hash": "m", "held_out_rows": "r"}
    assert HeldOut.of_training(model, start) == HeldOut(
        loss=0.4, rows="r", start_loss=0.5, start_weights="w0"
    )
