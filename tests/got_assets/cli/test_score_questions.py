"""GenEval 2 as a person sees it: the judge's settings, drawing, judging, comparing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.geneval2.viewers import MODEL, looking, without_logprobs
from tests.got_core.evaluate.published.downloads import write_data

from .conftest import Result

Got = Callable[..., Result]
SECRET = "sk-secret-of-the-judge"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_BENCHMARKS", str(write_data(tmp_path / "place")))


def test_draw_judge_compare(got: Got, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    call = ["score", "generate", "-b", "geneval2", "--model", model, "--pictures", pictures]
    drawn = got(*call, "--steps", 1, "--max-new-tokens", 4, "--json")
    assert drawn.status == 0, drawn.err
    assert drawn.json["drawn"] == 6
    judge = ["score", "judge", "-b", "geneval2", "--pictures", pictures]
    refused = got(*judge)
    assert refused.status == 1 and "set GOT_JUDGE_URL and GOT_JUDGE_MODEL" in refused.err
    monkeypatch.setenv("GOT_JUDGE_MODEL", MODEL)
    half = got(*judge)
    assert half.status != 0 and "set both GOT_JUDGE_URL and GOT_JUDGE_MODEL" in half.err
    monkeypatch.setenv("GOT_JUDGE_KEY", SECRET)
    with ChatServer(without_logprobs) as server:
        monkeypatch.setenv("GOT_JUDGE_URL", server.url)
        unfit = got(*judge)
        assert unfit.status == 1 and "the reply has no log-probabilities" in unfit.err
        assert SECRET not in unfit.err + unfit.out and "Traceback" not in unfit.err
        server.answer = looking
        judged = got(*judge, "--json")
        assert judged.status == 0, judged.err
        asked = len(server.requests)
        assert got(*judge).status == 0 and len(server.requests) == asked
    scores = judged.json
    assert scores["benchmark"] == "geneval2" and scores["of"] == "6 / 6" and scores["scale"] == 100
    assert scores["protocol_record"]["networks"]["judge"]["name"] == MODEL
    table = got("score", "report", f"{pictures}-scores/geneval2")
    assert table.status == 0 and "with plans" in table.out and scores["protocol"] in table.out
    (one,) = got("score", "report", f"{pictures}-scores/geneval2", "--json").json["benchmarks"]
    figures = one["tables"][0]["rows"][0]["figures"]
    assert {"overall", "2 atoms", "6 atoms", "object", "attribute", "count"} <= set(figures)


def test_fetch_list_names_source_and_licence(got: Got) -> None:
    listed = got("score", "fetch-list", "-b", "geneval2", "-b", "geneval2/published")
    assert listed.status == 0, listed.err
    for part in ("geneval2/geneval2_data.jsonl", "CC BY-NC 4.0", "github.com/facebookresearch/GenEval2"):
        assert part in listed.out
    assert "09233adbc9f877fb" in listed.out and "evaluation.py" in listed.out
