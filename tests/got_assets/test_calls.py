"""Calls that workers do beside shards, in the process that asks."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import pytest

from got_assets.workers import Answer, Call, Workers, _called


def no_instance() -> NoReturn:
    raise AssertionError("no process is started for calls that are made here")


def interrupted() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("count", "calls"), [(1, 3), (4, 1), (4, 0)])
def test_few_calls_or_one_process_start_none(count: int, calls: int) -> None:
    with Workers(no_instance, count) as workers:
        assert list(workers.calls([partial(divmod, number, 2) for number in range(calls)])) == [
            divmod(number, 2) for number in range(calls)
        ]


def test_what_a_call_raises_is_raised_where_it_was_asked_for() -> None:
    with Workers(no_instance, 1) as workers, pytest.raises(ZeroDivisionError):
        list(workers.calls([partial(divmod, 1, 0)]))


def test_an_answer_says_what_came_of_a_call() -> None:
    assert _called(Call(partial(divmod, 7, 2))) == Answer(returned=(3, 1))
    assert isinstance(_called(Call(partial(divmod, 1, 0))).raised, ZeroDivisionError)
    assert _called(Call(interrupted)).interrupted
