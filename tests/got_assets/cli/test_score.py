"""`got score run` as a person sees it; what it does: `inference/test_scoring`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from got_core.storage import Storage

from .conftest import Result

Got = Callable[..., Result]


@pytest.mark.slow
def test_a_model_is_scored_into_the_storage_of_the_settings(got: Got, model: Path, home: Path) -> None:
    done = got("score", "run", model, "--benchmark", "edits/scenes", "--json")
    assert done.status == 0, done.err
    assert list(done.json["scores"]) == ["edits/scenes"]
    prefix = f"edits/{done.json['weights_hash'][:12]}"
    storage = Storage(f"file://{home / 'storage'}")
    assert storage.read_json(f"{prefix}/scores.json") == done.json["scores"]["edits/scenes"]
    assert "edits/scenes: 6 of 6 scenes edited" in done.err
    table = got("score", "run", model, "-b", "edits/scenes")
    assert f"pictures and samples: {storage.url_of(prefix)}" in table.out and "95 % interval" in table.out


def test_unknown_names(got: Got, model: Path) -> None:
    done = got("score", "run", model, "-b", "scenes")
    assert done.status == 1 and "there are geneval/scenes, edits/scenes" in done.err
    done = got("score", "run", model, "-b", "geneval")
    assert done.status == 2 and "step by step: `got score generate -b geneval`" in done.err
    assert got("score", "run", "nowhere").status == 1
