"""One budget for project and day: what all processes that share a storage may spend until midnight UTC.

Belongs here: the file that they share, and this process's portion of it. Not here: the budget of one shard
(`spending`), and who asks models (`dispatch`).

A process takes portions of the day's budget before it spends them, and gives back what it did not need. What
was taken by a process that was killed stays taken: at most a hundredth of the budget, or what it had under
way.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.usage import Usage
from got_core.conditional_files import ConditionalFiles, Version, conditional_files
from got_core.storage import Storage

_PORTION = 0.01
"""Share of the day's budget that a process takes at once: so a day is a few hundred requests to the store."""


class DailyBudgetExhausted(AnnotationPaused):
    """The budget of the day does not cover the next request."""


@dataclass(frozen=True)
class Amount:
    """Money and tokens."""

    money: float = 0.0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.money + other.money, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.money - other.money, self.tokens - other.tokens)

    @classmethod
    def of(cls, usage: Usage) -> Amount:
        """What it costs."""
        return cls(usage.cost, usage.tokens)


@dataclass(frozen=True)
class _Day:
    """What is written down of a day: `taken` is what was spent and what processes still hold."""

    taken: Amount
    spent: Amount


class DailyBudget:
    """This process's part in the budget of the day. Safe to use from several threads.

    Args:
        files: where the file of a day is kept.
        money: limit of the cost of a day, None = none.
        tokens: limit of tokens read and written in a day, None = none.
        today: the day.
    """

    def __init__(
        self,
        files: ConditionalFiles,
        money: float | None,
        tokens: int | None,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        self.money, self.tokens = money, tokens
        self._files, self._today = files, today
        self._day = today()
        self._held, self._reserved, self._spent = Amount(), Amount(), Amount()
        self._lock, self._taking = threading.Lock(), threading.Lock()
        self._users = 0
        self.under_way, self.settled = 0, 0
        """Requests of this process that have something set aside, and those that are over."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="budget of the day")

    @contextmanager
    def used(self) -> Iterator[DailyBudget]:
        """For as long as requests are sent; then what is left of the portion is given back."""
        with self._lock:
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                last = self._users == 0
            if last:
                self.give_back()

    def reserve_held(self, worst_case: Usage) -> bool:
        """Set a request's worst case aside in what this process holds already; at once."""
        wanted = Amount.of(worst_case)
        with self._lock:
            if self._day != self._today() or not self._covers(self._held, self._reserved + wanted):
                return False
            self._reserved += wanted
            self.under_way += 1
            return True

    def reserve(self, worst_case: Usage) -> None:
        """Set a request's worst case aside, with another portion of the day if need be: asks the store.

        Raises DailyBudgetExhausted, or StoreUnavailableError.
        """
        with self._taking:
            while not self.reserve_held(worst_case):
                self._turn_page()
                with self._lock:
                    needed = self._reserved + Amount.of(worst_case) - self._held
                self._take(needed, worst_case)

    def reserve_later(self, worst_case: Usage) -> Future[None]:
        """As `reserve`, in a thread of its own."""
        return self._pool.submit(self.reserve, worst_case)

    def settle(self, worst_case: Usage, used: Usage) -> None:
        """Replace what was set aside by what was used."""
        with self._lock:
            self._reserved -= Amount.of(worst_case)
            self._held -= Amount.of(used)
            self._spent += Amount.of(used)
            self.under_way, self.settled = self.under_way - 1, self.settled + 1

    def give_back(self) -> None:
        """Let other processes have what is left of the portion, and note what was spent."""
        with self._taking, self._lock:
            self._give_back()

    def _give_back(self) -> None:
        left, spent = self._held - self._reserved, self._spent
        if left != Amount() or spent != Amount():
            self._change(lambda day: _Day(day.taken - left, day.spent + spent))
        self._held, self._spent = self._reserved, Amount()

    def _take(self, needed: Amount, worst_case: Usage) -> None:
        with self._lock:
            spent, self._spent = self._spent, Amount()

        def taken(day: _Day) -> _Day:
            now = _Day(day.taken, day.spent + spent)
            portion = self._portion(now.taken, needed)
            if portion is None:
                raise DailyBudgetExhausted(self._sentence(now, worst_case))
            return _Day(now.taken + portion, now.spent)

        try:
            before, after = self._change(taken)
        except BaseException:
            with self._lock:
                self._spent += spent
            raise
        with self._lock:
            self._held += after.taken - before.taken

    def _portion(self, taken: Amount, needed: Amount) -> Amount | None:
        """What to take: what is needed at least, a hundredth if there is as much; None where there is not
        enough."""
        money = _share(self.money, taken.money, needed.money)
        tokens = _share(self.tokens, taken.tokens, needed.tokens)
        return None if money is None or tokens is None else Amount(money, int(tokens))

    def _covers(self, held: Amount, wanted: Amount) -> bool:
        return (self.money is None or wanted.money <= held.money + 1e-9 * self.money) and (
            self.tokens is None or wanted.tokens <= held.tokens
        )

    def _turn_page(self) -> None:
        """At midnight the old day gets back what is left, but for requests under way: it pays for them."""
        with self._lock:
            if self._day != self._today():
                self._give_back()
                self._day = self._today()

    def _change(self, change: Callable[[_Day], _Day]) -> tuple[_Day, _Day]:
        """Replace the day's sums by what `change` makes of them: both."""
        while True:
            now = self._files.read(self._name)
            before = _parsed(now, self._name)
            after = change(before)
            after = _Day(_positive(after.taken), after.spent)
            if self._files.write(self._name, self._document(after), now):
                return before, after

    @property
    def _name(self) -> str:
        return _file_of(self._day)

    def _document(self, day: _Day) -> bytes:
        limits = {"money": self.money, "tokens": self.tokens}
        found = {"day": f"{self._day} UTC", "taken": vars(day.taken), "spent": vars(day.spent)}
        return json.dumps({**found, "limits": limits, "written": uuid.uuid4().hex}).encode() + b"\n"

    def _sentence(self, day: _Day, worst_case: Usage) -> str:
        limits = [f"{self.money:g} of money"] if self.money is not None else []
        limits += [f"{self.tokens} tokens"] if self.tokens is not None else []
        held = _positive(day.taken - day.spent)
        return (
            f"the budget of the day ({' and '.join(limits)}) is used up: on {self._day} (UTC) "
            f"{day.spent.money:g} of money and {day.spent.tokens} tokens were spent, {held.money:g} and "
            f"{held.tokens} are set aside for requests under way or were lost with processes that were "
            f"killed, and the next request may take {worst_case.cost:g} and {worst_case.tokens}. It goes on "
            f"at {self._day + timedelta(days=1)} 00:00 UTC: run it again then, or raise "
            "GOT_ANNOTATOR_BUDGET_PER_DAY or GOT_ANNOTATOR_BUDGET_TOKENS_PER_DAY; what is answered is kept"
        )


def taken_on(storage: Storage, day: date) -> Amount:
    """What was spent on a day (UTC), with what processes hold of it for requests under way; nothing where no
    limit was set then. Raises ValueError for a damaged file."""
    name = _file_of(day)
    if not storage.exists(name):
        return Amount()
    return _parsed(Version(storage.read_bytes(name), ""), name).taken


def _file_of(day: date) -> str:
    return f"ledger/days/{day}.json"


def _share(limit: float | None, taken: float, needed: float) -> float | None:
    if limit is None:
        return max(needed, 0)
    left = limit - taken
    if needed > left + 1e-9 * limit:
        return None
    return max(needed, min(left, _PORTION * limit))


def _positive(amount: Amount) -> Amount:
    return Amount(max(amount.money, 0.0), max(amount.tokens, 0))


def _parsed(version: Version | None, name: str) -> _Day:
    if version is None:
        return _Day(Amount(), Amount())
    try:
        found: dict[str, Any] = json.loads(version.data)
        sums = [Amount(float(found[k]["money"]), int(found[k]["tokens"])) for k in ("taken", "spent")]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} in the storage is damaged ({error!r}), so what was spent today is not known; correct "
            "it, or delete it to count from nothing"
        ) from error
    return _Day(*sums)


_BUDGETS: dict[str, DailyBudget] = {}
_MAKING = threading.Lock()


def daily_budget(storage: Storage, config: OpenAIConfig) -> DailyBudget | None:
    """The budget of the day of a storage, one for this process; None where there is no limit."""
    money, tokens = config.budget_per_day, config.budget_tokens_per_day
    if money is None and tokens is None:
        return None
    key = json.dumps([storage.url, storage.fs_options, money, tokens], default=str)
    with _MAKING:
        if key not in _BUDGETS:
            files = conditional_files(storage.url, storage.fs_options)
            _BUDGETS[key] = DailyBudget(files, money, tokens)
        return _BUDGETS[key]
