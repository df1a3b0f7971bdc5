"""A budget that stops before it is exceeded: the worst case of a request is reserved before it is sent.

Belongs here: limits of money and tokens. Not here: what a request may cost (`openai_annotator`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial

from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.daily_budget import DailyBudget, DailyBudgetExhausted
from got_core.annotate.usage import NOTHING, Usage

LOOK_AGAIN = 0.5
"""Seconds between looks at what requests of other event loops have given back."""


class BudgetExhausted(AnnotationPaused):
    """The next request could exceed the budget, and nothing under way can give anything back."""


def _unused(daily: DailyBudget, worst_case: Usage, done: Future[None]) -> None:
    if not done.cancelled() and done.exception() is None:
        daily.settle(worst_case, NOTHING)


class Budget:
    """Money and tokens left; used within one event loop.

    Args:
        money: limit of the cost, None = none.
        tokens: limit of tokens read and written, None = none.
        spent: what was spent before.
        daily: the budget of the day, which has to cover each request as well.
    """

    def __init__(
        self,
        money: float | None,
        tokens: int | None,
        spent: Usage = NOTHING,
        daily: DailyBudget | None = None,
    ) -> None:
        self.money, self.tokens = money, tokens
        self.spent = spent
        self._daily = daily
        self._settled = 0
        self._under_way = 0
        self._reserved: list[Usage] = []
        self._released = asyncio.Event()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.money is not None or self.tokens is not None or self._daily is not None

    async def reserve(self, worst_case: Usage) -> None:
        """Reserve `worst_case`, waiting for requests under way if need be.

        Raises BudgetExhausted or DailyBudgetExhausted.
        """
        while True:
            while not self._fits(worst_case):
                if not self._reserved:
                    raise BudgetExhausted(self._message(worst_case))
                await self._release()
            self._reserved.append(worst_case)
            settled, elsewhere = self._settled, self._daily.settled if self._daily else 0
            try:
                await self._reserve_of_day(worst_case)
                self._under_way += 1
                return
            except BaseException as error:
                self._reserved.remove(worst_case)
                self._released.set()
                if not (isinstance(error, DailyBudgetExhausted) and self._gives_back(settled, elsewhere)):
                    raise
            while self._under_way and settled == self._settled:
                await self._release()
            if settled == self._settled:
                await asyncio.sleep(LOOK_AGAIN)

    def _gives_back(self, settled: int, elsewhere: int) -> bool:
        """Whether requests give back, or have given back since these counts, a part of what they set aside of
        the day. Those that wait for the day as well give nothing back: only requests under way do, here or in
        other shards of this process."""
        daily = self._daily
        return bool(
            self._under_way
            or settled != self._settled
            or (daily and (daily.under_way or elsewhere != daily.settled))
        )

    async def _release(self) -> None:
        self._released.clear()
        await self._released.wait()

    async def _reserve_of_day(self, worst_case: Usage) -> None:
        daily = self._daily
        if daily is None or daily.reserve_held(worst_case):
            return
        asked = daily.reserve_later(worst_case)
        try:
            await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            # What the thread still gets nobody will use.
            asked.add_done_callback(partial(_unused, daily, worst_case))
            raise

    def settle(self, worst_case: Usage, used: Usage) -> None:
        """Replace what was reserved by what was used."""
        self._reserved.remove(worst_case)
        self.spent += used
        self._settled += 1
        self._under_way -= 1
        if self._daily is not None:
            self._daily.settle(worst_case, used)
        self._released.set()

    def _fits(self, worst_case: Usage) -> bool:
        total = sum(self._reserved, self.spent) + worst_case
        return not (
            (self.money is not None and total.cost > self.money)
            or (self.tokens is not None and total.tokens > self.tokens)
        )

    def _message(self, worst_case: Usage) -> str:
        limits = [f"{self.money:g} of money"] if self.money is not None else []
        limits += [f"{self.tokens} tokens"] if self.tokens is not None else []
        return (
            f"the budget of this shard ({' and '.join(limits)}) does not cover the next request: "
            f"{self.spent.cost:g} and {self.spent.tokens} tokens are spent, it may take {worst_case.cost:g} "
            f"and {worst_case.tokens}; what is answered is kept. Raise the budget and run the step again"
        )
