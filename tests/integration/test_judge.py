"""GenEval 2's judge and a real vLLM server: log-probabilities of a tiny vision model that had lessons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from got_core.evaluate.geneval2.benchmark import GenEval2
from got_core.evaluate.geneval2.known import known_questions
from got_core.evaluate.geneval2.prompts import Samples, read_samples
from got_core.evaluate.geneval2.questions import NUMBERS, Way, digits_of, published_way
from got_core.evaluate.geneval2.server import JudgeError, JudgePaused
from got_core.storage import Storage
from tests.got_core.evaluate.geneval2.lists import GROUPS, SMALL, judge_at, write_checkout, write_folder
from tests.got_core.evaluate.geneval2.viewers import drawing
from tests.integration.conftest import check_installed
from tests.integration.small_model import _batch, _sample, write_model
from tests.integration.vllm_server import VLLMServer

Lesson = tuple[str, Image.Image | None, str]


def lessons_of(way: Way, samples: Samples) -> list[Lesson]:
    """The judge's questions about known drawings and those of the list, with right answers."""
    lessons: dict[tuple[str, bytes], Lesson] = {}
    for known in known_questions():
        if known.right or not known.question.counting:
            reply = digits_of(known.question.answer) if known.question.counting else "Yes"
            text = way.put(known.question).text
            lessons[text, known.image.tobytes()] = (text, known.image, reply if known.right else "No")
    for sample, groups in zip(samples.all, GROUPS, strict=True):
        image = drawing(groups)
        for question in sample.questions:
            text = way.put(question).text
            reply = digits_of(question.answer) if question.counting else "Yes"
            lessons[text, image.tobytes()] = (text, image, reply)
    return list(lessons.values())


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a list of our own, its pictures, and a model that has learned the answers."""
    check_installed()
    folder = tmp_path_factory.mktemp("judge")
    samples = read_samples(write_checkout(folder / "GenEval2"))
    write_folder(Storage(f"file://{folder / 'pictures'}"), samples)
    write_model(folder / "model", lessons_of(NUMBERS, samples), steps=400)
    return folder


@pytest.fixture(scope="session")
def judge_server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    running = VLLMServer(home / "model", tmp_path_factory.mktemp("judge-server"))
    try:
        running.start()
        yield running
    finally:
        running.kill()


def judged(home: Path, server: VLLMServer, benchmark: GenEval2, **settings: Any) -> pl.DataFrame:
    samples = benchmark.read(home / "GenEval2")
    pictures = benchmark.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    judge = judge_at(server.url, **{"model": str(server.model), "timeout": 120.0} | settings)
    return benchmark.judge(samples, pictures, judge, store=Storage(f"file://{home / 'store'}"))


def kept(home: Path) -> list[dict[str, Any]]:
    storage = Storage(f"file://{home / 'store'}")
    lines = [line for name in storage.list("answers/") for line in storage.read_bytes(name).splitlines()]
    return [one for line in lines if (one := json.loads(line[9:]))["kind"] == "done"]


def test_log_probabilities_are_those_of_the_network(home: Path, judge_server: VLLMServer) -> None:
    benchmark = GenEval2(config=SMALL)
    frame = judged(home, judge_server, benchmark)
    scores = benchmark.scores(frame)
    print({name: scores[name] for name in ("overall", "low", "high", "cut")}, scores["skills"])
    assert frame["unscored"].null_count() == frame.height == 6 and scores["overall"] > 50
    for entry in kept(home):
        answer = json.loads(entry["text"])
        assert len(answer["top"]) == 20 and answer["model"] == str(judge_server.model)
        assert entry["tokens_out"] == 1 and entry["tokens_in"] > 10
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(home / "model").eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(home / "model")
    for row in frame.iter_rows(named=True):
        for atom in row["answers"]:
            sample = _sample(tokenizer, atom["question"], drawing(GROUPS[row["prompt_index"]]), "")
            batch = {name: value for name, value in _batch([sample]).items() if name != "labels"}
            cut = {"input_ids", "attention_mask", "mm_token_type_ids"}
            batch = {name: value[:, :-1] if name in cut else value for name, value in batch.items()}
            with torch.no_grad():
                probabilities = model(**batch).logits[0, -1].softmax(-1)
            question = benchmark.read(home / "GenEval2").all[row["prompt_index"]].questions
            (asked,) = [one for one in question if NUMBERS.put(one).text == atom["question"]]
            ids = [tokenizer.encode(token) for token in NUMBERS.put(asked).tokens]
            whole = sum(float(probabilities[one[0]]) for one in ids if len(one) == 1)
            assert atom["probability"] - 1e-3 <= whole <= atom["probability"] + atom["bound"] + 1e-3, atom


def test_the_published_way_of_a_real_server(home: Path, judge_server: VLLMServer) -> None:
    way = published_way(home / "GenEval2", home / "model")
    samples = read_samples(home / "GenEval2")
    put = way.put(samples.all[1].questions[0])
    assert sum(put.tokens.values()) == 6
    with pytest.raises(JudgeError, match="cannot be trusted"):  # it has not learned this wording
        judged(home, judge_server, GenEval2(config=SMALL, way=way))


def test_what_a_real_server_refuses(home: Path, judge_server: VLLMServer) -> None:
    benchmark = GenEval2(config=SMALL)
    with pytest.raises(JudgePaused, match=r"max allowed: 20 .*; lower GOT_JUDGE_TOP_LOGPROBS"):
        judged(home, judge_server, benchmark, top_logprobs=50)
    with pytest.raises(JudgePaused, match=r"HTTP 404: no such URL or model .*judge's settings"):
        judged(home, judge_server, benchmark, model="Qwen/Qwen3-VL-8B-Instruct")
