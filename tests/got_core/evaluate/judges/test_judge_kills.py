"""A judging that is killed with SIGKILL again and again: nothing that was answered is paid for twice.

The server kills it, in the middle of requests. ``KILLS=10 pytest ...`` kills as many times.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from got_core.evaluate.judges.export import ledger_table
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judges.calls import attempt_of, number_of
from tests.got_core.evaluate.judges.killed import judged

KILLS = int(os.environ.get("KILLS", "3"))
EVERY = 11
CALLS = 8 * KILLS + 8
AT_ONCE = 4
Reply = tuple[int, int]
"""Which call, and which reply to it."""


class Server:
    """Counts replies, and kills a process at some request; the first reply to a third of the calls is bad."""

    def __init__(self) -> None:
        self.sent: Counter[Reply] = Counter()
        self._lock = threading.Lock()
        self._left, self._victim = 0, 0

    def kill_after(self, requests: int, victim: int) -> None:
        with self._lock:
            self._left, self._victim = requests, victim

    def __call__(self, body: dict[str, Any]) -> str:
        number, attempt = number_of(body), attempt_of(body)
        assert number is not None
        with self._lock:
            self.sent[number, attempt] += 1
            self._left -= 1
            if self._left == 0:
                os.kill(self._victim, signal.SIGKILL)
        return answer(number, attempt)


def answer(number: int, attempt: int) -> str:
    """A judge that is sure of itself; the reply names what it is to."""
    if number % 3 == 0 and attempt <= number % 9 // 3 + 1:
        return f"I think that {number} is fine, {attempt}."
    return json.dumps({"score": [number % 11, 9], "reasoning": f"{number} {attempt}"})


def kept(home: Path) -> set[str]:
    """The replies that the ledger holds."""
    return set(ledger_table(Storage(f"file://{home}"), "answers")["reply"])


def test_kills_lose_no_answer_and_pay_for_none_twice(tmp_path: Path) -> None:
    home, answer_to = tmp_path / "home", Server()
    with ChatServer(answer_to, latency=0.005) as server:
        command = [
            sys.executable,
            "-m",
            "tests.got_core.evaluate.judges.killed",
            str(home),
            server.url,
            str(CALLS),
        ]
        for kill in range(KILLS):
            before, sent = kept(home), Counter(answer_to.sent)
            child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            answer_to.kill_after(EVERY, child.pid)
            assert child.wait() == -signal.SIGKILL
            new = answer_to.sent - sent
            assert not {one for one in new if answer(*one) in before}, "what is kept is not asked again"
            assert before < kept(home)
            paid_twice = sum(answer_to.sent.values()) - len(answer_to.sent)
            assert paid_twice <= kill * AT_ONCE, "only what was under way at a kill is asked again"
        verdicts = judged(home, server.url, CALLS)
        requests = sum(answer_to.sent.values())
        assert judged(home, server.url, CALLS) == verdicts
        assert sum(answer_to.sent.values()) == requests, "nothing is left to ask"
    replies = {answer(*one) for one in answer_to.sent}
    assert kept(home) == replies, "none is lost"
    assert requests - len(answer_to.sent) <= KILLS * AT_ONCE
    fresh = Server()
    with ChatServer(fresh) as server:
        undisturbed = judged(tmp_path / "fresh", server.url, CALLS)
    assert set(fresh.sent) == set(answer_to.sent) and max(fresh.sent.values()) == 1
    assert {n: (one.state, one.value, one.calls) for n, one in verdicts.items()} == {
        n: (one.state, one.value, one.calls) for n, one in undisturbed.items()
    }
    print(f"{KILLS} kills: {len(replies)} replies, {requests - len(replies)} of them asked for again")
