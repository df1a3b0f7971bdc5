"""A budget that stops before it is exceeded: the worst case of a request is reserved before it is sent.

Belongs here: limits of money and tokens. Not here: what a request may cost (`openai_annotator`).
"""

from __future__ import annotations

import asyncio

from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.usage import NOTHING, Usage


class BudgetExhausted(AnnotationPaused):
    """The next request could exceed the budget, and nothing under way can give anything back."""


class Budget:
    """Money and tokens left; used within one event loop.

    Args:
        money: limit of the cost, None = none.
        tokens: limit of tokens read and written, None = none.
        spent: what was spent before.
    """

    def __init__(self, money: float | None, tokens: int | None, spent: Usage = NOTHING) -> None:
        self.money, self.tokens = money, tokens
        self.spent = spent
        self._reserved: list[Usage] = []
        self._released = asyncio.Event()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.money is not None or self.tokens is not None

    async def reserve(self, worst_case: Usage) -> None:
        """Reserve `worst_case`, waiting for requests under way if need be. Raises BudgetExhausted."""
        while not self._fits(worst_case):
            if not self._reserved:
                raise BudgetExhausted(self._message(worst_case))
            self._released.clear()
            await self._released.wait()
        self._reserved.append(worst_case)

    def settle(self, worst_case: Usage, used: Usage) -> None:
        """Replace what was reserved by what was used."""
        self._reserved.remove(worst_case)
        self.spent += used
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
