"""Slots over threads, event loops and processes; processes that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.slots import Slots, slots_path
from tests.got_core.annotate.chat_server import ChatServer, annotate_shard, config_for

HOLDER = """
import asyncio, sys, time
from pathlib import Path
from got_core.annotate.slots import Slots
count, at_once, path, seconds = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
slots, taken = Slots(count, path), 0
async def hold(until):
    global taken
    while time.monotonic() < until:
        async with slots.one():
            taken += 1
            print("+", flush=True)
            await asyncio.sleep(0.02)
            print("-", flush=True)
async def main():
    until = time.monotonic() + seconds
    await asyncio.gather(*(hold(until) for _ in range(at_once)))
asyncio.run(main())
print(taken)
"""


def holder(count: int, at_once: int, path: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(count), str(at_once), str(path), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def _most_at_once(slots: Slots, tasks: int, seconds: float = 0.01) -> int:
    now = most = 0

    async def work() -> None:
        nonlocal now, most
        async with slots.one():
            now += 1
            most = max(most, now)
            await asyncio.sleep(seconds)
            now -= 1

    await asyncio.gather(*(work() for _ in range(tasks)))
    return most


@pytest.mark.parametrize("shared", [False, True])
def test_never_more_than_there_are(tmp_path: Path, shared: bool) -> None:
    slots = Slots(3, tmp_path / "here" / "a.slots" if shared else None)
    assert asyncio.run(_most_at_once(slots, 20)) == 3
    slots.close()


def test_event_loops_of_one_process_share_them(tmp_path: Path) -> None:
    most, loops = [], [Slots(4, tmp_path / "a.slots") for _ in range(3)]
    now, lock = [0], threading.Lock()

    async def work(slots: Slots) -> None:
        async with slots.one():
            with lock:
                now[0] += 1
                most.append(now[0])
            await asyncio.sleep(0.01)
            with lock:
                now[0] -= 1

    async def many(slots: Slots) -> None:
        await asyncio.gather(*(work(slots) for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(many(slots),)) for slots in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 30 and max(most) <= 4
    loops[0].close()
    assert asyncio.run(_most_at_once(loops[1], 8)) == 4
    for slots in loops[1:]:
        slots.close()


def test_a_cancelled_question_gives_back_what_it_got(tmp_path: Path) -> None:
    slots = Slots(1, tmp_path / "a.slots")

    async def main() -> None:
        for pause in (0.0, 0.005, 0.02):
            async with slots.one():
                waiting = [asyncio.create_task(_most_at_once(slots, 1)) for _ in range(5)]
                await asyncio.sleep(0.001)
            await asyncio.sleep(pause)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert await asyncio.wait_for(_most_at_once(slots, 3), 60) == 1

    asyncio.run(main())
    slots.close()


def test_a_process_with_much_to_do_leaves_others_their_share(tmp_path: Path) -> None:
    path = tmp_path / "a.slots"
    greedy = holder(4, 50, path, 300.0)
    assert greedy.stdout is not None
    for _ in range(100):  # it is at work, and always has questions waiting
        greedy.stdout.readline()
    threading.Thread(target=greedy.stdout.read, daemon=True).start()
    slots = Slots(4, path)
    try:
        most = asyncio.run(asyncio.wait_for(_most_at_once(slots, 60), 100))
        assert 1 <= most <= 4 and greedy.poll() is None
    finally:
        greedy.kill()
        greedy.wait()
        slots.close()


def test_all_processes_together_never_hold_more(tmp_path: Path) -> None:
    with ChatServer(latency=0.05) as server:
        slots = tmp_path / "slots"
        code = (
            "import sys; from pathlib import Path; from tests.got_core.annotate.test_slots import shard; "
            "shard(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code, server.url, str(tmp_path / f"s{k}"), str(slots)])
            for k in range(3)
        ]
        assert [process.wait() for process in processes] == [0, 0, 0]
        assert len(server.requests) == 3 * 20 * 4
        assert 4 < server.most_at_once <= 5


def shard(url: str, storage: str, slots: Path) -> None:
    """Annotate a shard, in a process of its own."""
    annotate_shard(url, f"file://{storage}", 20, {"concurrency": 5}, slots)


def test_a_killed_process_frees_its_slots(tmp_path: Path) -> None:
    path = tmp_path / "a.slots"
    process = holder(2, 2, path, 60.0)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGSTOP)  # it holds what it holds
    slots = Slots(2, path)

    async def fits(seconds: float) -> bool:
        try:
            return await asyncio.wait_for(_most_at_once(slots, 2, 0.2), seconds) == 2
        except TimeoutError:
            return False

    before = asyncio.run(fits(1.0))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not before and asyncio.run(fits(60.0))
    slots.close()


def test_a_slot_goes_on_within_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("got_core.annotate.slots._LOOK_SECONDS", 1e6)  # no look around is waited for
    slots = Slots(1, tmp_path / "a.slots")
    assert asyncio.run(asyncio.wait_for(_most_at_once(slots, 400, 0.0), 60)) == 1
    slots.close()


def test_each_server_has_slots_of_its_own(tmp_path: Path) -> None:
    assert slots_path(tmp_path, "http://a/v1") != slots_path(tmp_path, "http://b/v1")
    config = config_for("http://a/v1")
    assert (
        OpenAIAnnotator(config, None, slots=tmp_path)._slots
        != OpenAIAnnotator(  # type: ignore[arg-type]
            config_for("http://b/v1"),
            None,
            slots=tmp_path,  # type: ignore[arg-type]
        )._slots
    )
    assert [*tmp_path.iterdir()] == []
