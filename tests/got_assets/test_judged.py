"""A candidate scored by judged benchmarks, one of the project's and one of the user's own.

Real Dagster and MLflow, a tiny model, a judge that looks at pictures, behind a server on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.evaluate.config import EvaluateConfig
from got_core.recipes import RECIPES, Recipe, tiny
from got_core.registry.config import PromotionConfig
from got_core.registry.results import read_results
from got_core.registry.tracking import connect
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judged.made import COLOURS, encoded, imagenhub, looking, write

from .conftest import Graph
from .test_published import materialize, write_models

pytestmark = [pytest.mark.filterwarnings("ignore")]

OWN = "judged/own_edits"
DEFINITION = """
title = "Own edits"
[samples]
format = "jsonl"
path = "./samples.jsonl"
fields = { id = "{id}", instruction = "{text}" }
shows = { source = "{id}.png" }
[ask.edit]
prompt = "edit.txt"
shows = ["source", "edited"]
scores = ["success", "restraint"]
low = 0
high = 10
[score]
sample = "mean"
"""


def own_folder(place: Path) -> Path:
    """Two edits of a user's own."""
    folder = place / OWN
    write(folder / "benchmark.toml", DEFINITION)
    write(folder / "edit.txt", "How well was {instruction} done, and with how much restraint?")
    rows = [{"id": name, "text": f"make {name} grey"} for name in ("one", "two")]
    write(folder / "samples.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    for number, row in enumerate(rows):
        write(folder / f"{row['id']}.png", encoded(COLOURS[number], size=(64, 64)))
    return place


def scored_by_a_judge() -> Recipe:
    """The recipe `tiny`, scored by a judge."""
    evaluate = EvaluateConfig(benchmarks=("imagenhub", OWN), num_inference_steps=1, max_new_tokens=4)
    promotion = PromotionConfig(primary="imagenhub/overall")
    return replace(tiny(), name="judged", evaluate=evaluate, promotion=promotion)


def test_recipes_name_judged_benchmarks() -> None:
    config = scored_by_a_judge().evaluate
    assert config.assets == {"imagenhub": "imagenhub", "judged_own_edits": OWN}
    assert config.published == ("imagenhub", OWN) and config.on_scenes == ()
    with pytest.raises(ValueError, match=r"of your own \(judged/NAME\), each once, got \('judged/Own',\)"):
        EvaluateConfig(benchmarks=("judged/Own",))


@pytest.mark.slow
def test_a_candidate_is_drawn_judged_registered_and_promoted(
    load: Callable[..., Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_kept: None
) -> None:
    monkeypatch.setitem(RECIPES, "judged", scored_by_a_judge)
    place = own_folder(imagenhub(tmp_path / "place"))
    with ChatServer(looking) as server:
        monkeypatch.setenv("GOT_JUDGE_URL", server.url)
        monkeypatch.setenv("GOT_JUDGE_MODEL", "eyes")
        graph = load(recipe="judged", benchmarks=str(place))
        weights = write_models(graph, 0)
        assets = ("imagenhub", "judged_own_edits", "benchmark_report", "registered_model", "promoted_model")
        assert materialize(graph, *assets).success
    shown = graph.metadata("judged_own_edits")
    assert shown["judged"] == "2 / 2" and shown["protocol"].startswith(f"{OWN}/judge-eyes ")
    pictures = [name for name in graph.storage.list("published/judged_own_edits/") if "/pictures-" in name]
    assert sum(name.endswith(".png") for name in pictures) == 2 and all(
        weights[:12] in one for one in pictures
    )
    client = connect(graph.project.settings.tracking_uri)
    held = read_results(client, client.get_model_version_by_alias("got", "champion"))
    assert set(held) == {"imagenhub", OWN}
    assert "<h2>imagenhub/judge-eyes" in graph.storage.read_bytes("benchmark_report.html").decode()
