"""One budget for project and day: real processes that share a storage never spend more together."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from got_core.annotate import t2i
from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.config import OpenAIConfig, VLLMConfig
from got_core.annotate.daily_budget import DailyBudget, DailyBudgetExhausted
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.usage import NOTHING, Usage
from got_core.conditional_files import ConditionalFiles, conditional_files
from got_core.settings import Settings
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer, config_for, plain_picture, raw_table

ROOT = Path(__file__).parents[3]
A_REPLY = 110
"""Tokens that the server counts for a request."""
AT_MOST = 2_500
"""Tokens of a request's worst case, and more."""
ANNOTATE = """
import json, sys
from got_core.annotate import t2i
from got_core.annotate.daily_budget import DailyBudgetExhausted
from got_core.annotate.factory import open_annotator
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import config_for, plain_picture, raw_table
url, storage_url, options, scope, count, limit = sys.argv[1:]
storage = Storage(storage_url, **json.loads(options))
config = config_for(url, budget_tokens_per_day=int(limit))
try:
    with open_annotator("openai", storage, scope, config) as annotator:
        frame = t2i.caption_images(raw_table(int(count)), lambda path: plain_picture(path), annotator)
except DailyBudgetExhausted as error:
    print(error)
    sys.exit(3)
storage.write_table(f"captions/{scope}", frame)
"""


@pytest.fixture
def files(tmp_path: Path) -> ConditionalFiles:
    return conditional_files(str(tmp_path / "storage"), {}, tmp_path)


def annotate(
    server: ChatServer, place: tuple[str, dict[str, Any]], scope: str, count: int, limit: int
) -> subprocess.Popen[str]:
    """A process that annotates a shard of its own."""
    arguments = [server.url, place[0], json.dumps(place[1]), scope, str(count), str(limit)]
    return subprocess.Popen(
        [sys.executable, "-c", ANNOTATE, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_processes_together_never_spend_more_than_the_limit(place: tuple[str, dict[str, Any]]) -> None:
    limit = 60_000
    with ChatServer(latency=0.005) as server:
        workers = [annotate(server, place, f"images-{k:05}", 400, limit) for k in range(3)]
        lines = [worker.communicate(timeout=600)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [3] * 3, lines
        used = A_REPLY * len(server.requests)
        assert limit - 3 * (AT_MOST + limit // 100) < used <= limit
        late = annotate(server, place, "images-00009", 400, limit)
        line = late.communicate(timeout=600)[0]
        used = A_REPLY * len(server.requests)
        assert late.returncode == 3 and used <= limit
    assert f"the budget of the day ({limit} tokens) is used up" in line, line
    assert f"{used} tokens were spent" in line and "goes on at" in line and "00:00 UTC" in line


def test_processes_that_are_killed_waste_a_hundredth_each(tmp_path: Path) -> None:
    limit, kills = 300_000, 8
    place: tuple[str, dict[str, Any]] = (f"file://{tmp_path / 'storage'}", {})
    rng = random.Random(3)
    with ChatServer(latency=0.02) as server:
        for kill in range(kills):
            begun = len(server.requests)
            worker = annotate(server, place, f"images-{kill:05}", 400, limit)
            while len(server.requests) < begun + rng.randint(1, 9) and worker.poll() is None:
                time.sleep(0.001)
            os.kill(worker.pid, signal.SIGKILL)
            worker.communicate()
            assert worker.returncode == -signal.SIGKILL
            while server.at_once:
                time.sleep(0.001)
        taken, spent = sums(tmp_path / "storage")
        assert A_REPLY * len(server.requests) <= taken <= spent + kills * (limit // 100 + 4 * AT_MOST)
        last = annotate(server, place, "images-00000", 60, limit)
        last.communicate(timeout=600)
        assert last.returncode == 0
    assert Storage(place[0]).read_table("captions/images-00000")["error"].null_count() == 60


def sums(folder: Path) -> tuple[int, int]:
    [path] = [*(folder / "ledger" / "days").iterdir()]
    found = json.loads(path.read_text())
    return found["taken"]["tokens"], found["spent"]["tokens"]


@pytest.mark.parametrize("limits", [{"tokens": 9_000}, {"money": 9.0}, {"money": 9.0, "tokens": 9_000}])
def test_the_next_day_goes_on_and_asks_nothing_again(
    storage: Storage, files: ConditionalFiles, limits: dict[str, Any]
) -> None:
    today = [date(2026, 11, 29)]
    daily = DailyBudget(files, limits.get("money"), limits.get("tokens"), today=lambda: today[0])
    count, days = 200, 0
    with ChatServer(latency=0.001) as server:
        config = config_for(server.url, price_in=1e3, price_out=1e3)
        while True:
            days += 1
            begun = len(server.requests)
            try:
                frame = annotated(config, storage, daily, count)
            except DailyBudgetExhausted as error:
                line, tomorrow = str(error), today[0] + timedelta(days=1)
                assert f"on {today[0]} (UTC)" in line and str(tomorrow) in line
                used = A_REPLY * (len(server.requests) - begun)
                assert 9_000 - AT_MOST < used <= 9_000
                today[0] = tomorrow
                continue
            break
        assert frame["error"].null_count() == count and len(set(server.requests)) == len(server.requests)
    assert days == -(-len(server.requests) * A_REPLY // 9_000) or days > 4


def annotated(config: OpenAIConfig, storage: Storage, daily: DailyBudget, count: int) -> Any:
    with daily.used(), OpenAIAnnotator(config, Ledger(storage, "images-00000"), None, daily) as annotator:
        return t2i.caption_images(raw_table(count), plain_picture, annotator)


def test_a_day_that_ends_while_requests_are_under_way(files: ConditionalFiles) -> None:
    today = [date(2026, 11, 29)]
    daily = DailyBudget(files, None, 1_000, today=lambda: today[0])
    daily.reserve(Usage(400, 100))
    today[0] += timedelta(days=1)
    daily.reserve(Usage(900, 90))
    daily.settle(Usage(400, 100), Usage(100, 10))
    daily.settle(Usage(900, 90), Usage(900, 90))
    daily.give_back()
    with pytest.raises(DailyBudgetExhausted):
        daily.reserve(Usage(500, 0))


def test_what_was_not_needed_is_given_back(files: ConditionalFiles) -> None:
    first, second = DailyBudget(files, None, 1_000), DailyBudget(files, None, 1_000)
    with first.used():
        first.reserve(Usage(900, 0))
        with pytest.raises(DailyBudgetExhausted, match="0 tokens were spent, 0 and 900 are set aside"):
            second.reserve(Usage(200, 0))
        first.settle(Usage(900, 0), Usage(100, 0))
    second.reserve(Usage(880, 0))
    with pytest.raises(DailyBudgetExhausted):
        second.reserve(Usage(100, 0))


def test_a_server_that_counts_more_than_was_thought_possible_is_counted(files: ConditionalFiles) -> None:
    daily = DailyBudget(files, None, 1_000)
    daily.reserve(Usage(100, 0))
    daily.settle(Usage(100, 0), Usage(950, 0))
    with pytest.raises(DailyBudgetExhausted):
        DailyBudget(files, None, 1_000).reserve(Usage(995, 0))
    with pytest.raises(DailyBudgetExhausted):
        daily.reserve(Usage(60, 0))
    daily.give_back()
    with pytest.raises(DailyBudgetExhausted, match="950 tokens were spent"):
        DailyBudget(files, None, 1_000).reserve(Usage(60, 0))


def test_a_day_is_a_few_hundred_requests_to_the_store(files: ConditionalFiles) -> None:
    counted = Counted(files)
    daily = DailyBudget(counted, 10.0, None)
    spent = 0
    with pytest.raises(DailyBudgetExhausted):
        while True:
            daily.reserve(Usage(10, 10, 0.002))
            daily.settle(Usage(10, 10, 0.002), Usage(5, 5, 0.001))
            spent += 1
    assert 9_990 <= spent <= 10_000
    assert counted.requests <= 250


class Counted:
    note, requests = "", 0

    def __init__(self, files: ConditionalFiles) -> None:
        self._files = files

    def read(self, name: str) -> Any:
        self.requests += 1
        return self._files.read(name)

    def write(self, name: str, data: bytes, expected: Any) -> Any:
        self.requests += 1
        return self._files.write(name, data, expected)


def test_a_pause_gives_back_what_nobody_will_use(storage: Storage, files: ConditionalFiles) -> None:
    daily = DailyBudget(files, None, 1_000_000)
    with ChatServer(lambda _: web.Response(status=401)) as server, pytest.raises(AnnotationPaused):
        annotated(config_for(server.url), storage, daily, 20)
    deadline = time.monotonic() + 60
    while daily._reserved.tokens and time.monotonic() < deadline:
        time.sleep(0.01)
    daily.give_back()
    daily.reserve(Usage(1_000_000 - 20 * AT_MOST, 0))
    assert daily._held.tokens >= 1_000_000 - 20 * AT_MOST


def test_damaged_sums_are_no_sums(files: ConditionalFiles, tmp_path: Path) -> None:
    daily = DailyBudget(files, None, 1_000)
    daily.reserve(Usage(1, 0))
    [path] = [*(tmp_path / "storage" / "ledger" / "days").iterdir()]
    path.write_text('{"taken": {}}')
    with pytest.raises(ValueError, match=r"ledger/days/.*json in the storage is damaged"):
        DailyBudget(files, None, 1_000).reserve(Usage(1, 0))


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "URL": "http://x/v1",
        "VISION_MODEL": "qwen2-vl",
        "BUDGET_PER_DAY": "5",
        "BUDGET_TOKENS_PER_DAY": "7",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"GOT_ANNOTATOR_{name}", value)
    config = Settings(annotator="openai").annotator_config
    assert config and (config.budget_per_day, config.budget_tokens_per_day) == (5.0, 7)
    with pytest.raises(ValueError, match="budget_per_day must not be negative"):
        config_for("http://x/v1", budget_per_day=-1)
    with pytest.raises(ValueError, match="a budget is kept only where a server is asked"):
        VLLMConfig(vision_model="qwen2-vl", budget_tokens_per_day=1)
    assert NOTHING.tokens == 0
