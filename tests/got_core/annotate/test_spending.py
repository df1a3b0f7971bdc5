"""Requests of one shard that wait for its budget and for the day's together."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from got_core.annotate.daily_budget import DailyBudget, DailyBudgetExhausted
from got_core.annotate.spending import Budget
from got_core.annotate.usage import Usage
from got_core.conditional_files import LocalFiles, Version

WORST_CASE = Usage(100, 0)


def budget_of(tmp_path: Path, tokens: int) -> Budget:
    return Budget(None, None, daily=DailyBudget(FarFiles(tmp_path), None, tokens))


class FarFiles(LocalFiles):
    """A store takes longer to answer than requests take to go on."""

    def read(self, name: str) -> Version | None:
        time.sleep(0.02)
        return super().read(name)


def test_requests_that_all_wait_for_the_day_do_not_wait_for_each_other(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, 50)

    async def ask() -> list[BaseException | None]:
        waiting = [budget.reserve(WORST_CASE) for _ in range(5)]
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)

    assert [type(error) for error in asyncio.run(ask())] == [DailyBudgetExhausted] * 5


def test_requests_wait_for_what_one_under_way_gives_back(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, 150)

    async def ask() -> list[BaseException | None]:
        await budget.reserve(WORST_CASE)
        waiting = [asyncio.create_task(budget.reserve(WORST_CASE)) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.3)
        assert not any(one.done() for one in waiting)
        budget.settle(WORST_CASE, Usage(50, 0))
        first = await asyncio.wait(waiting, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert [one.exception() for one in first[0]] == [None]
        budget.settle(WORST_CASE, WORST_CASE)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)

    granted = asyncio.run(ask())
    assert sorted(str(type(error)) for error in granted if error) == [str(DailyBudgetExhausted)] * 2


def test_a_shard_waits_for_what_another_shard_of_the_process_gives_back(tmp_path: Path) -> None:
    day = DailyBudget(FarFiles(tmp_path), None, 150)
    under_way, waiting = Budget(None, None, daily=day), Budget(None, None, daily=day)

    async def ask() -> tuple[bool, bool]:
        await under_way.reserve(WORST_CASE)
        other = asyncio.create_task(waiting.reserve(WORST_CASE))
        await asyncio.wait([other], timeout=1)
        early = other.done()
        under_way.settle(WORST_CASE, Usage(50, 0))
        await asyncio.wait([other], timeout=60)
        return early, other.exception() is None

    assert asyncio.run(ask()) == (False, True)
