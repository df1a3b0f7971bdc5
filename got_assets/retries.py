"""Faults that may pass soon: the step is tried again by itself, later each time.

A store or a server says so by the `retryable` of its error; everything else fails at once, as it would again.
Dagster's own `RetryPolicy` knows no such difference, and takes Ctrl-C for a fault to retry; so the request
for another try is raised here.

Belongs here: when, and how often. Not here: which faults pass (`got_core.store_faults`, annotators).
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from got_assets.project import PROJECT
from got_assets.reporting import log_progress

P = ParamSpec("P")
R = TypeVar("R")


def retried(compute: Callable[P, R]) -> Callable[P, R]:
    """The function of an asset, tried again after faults that may pass. Stands directly above it."""

    @functools.wraps(compute)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with retrying(_attempt()):
            return compute(*args, **kwargs)

    return computed


@contextmanager
def retrying(attempt: int) -> Iterator[None]:
    """Ask Dagster for another try of the step where a fault may pass; `attempt` counts from 0."""
    try:
        yield
    except Exception as error:
        if not getattr(error, "retryable", False):
            raise
        most, seconds = PROJECT.settings.retries, PROJECT.settings.retry_delay * 2**attempt
        if attempt < most:
            log_progress(f"{error} (tried again in {seconds:g} s, {attempt + 1} of {most})")
        raise dg.RetryRequested(max_retries=most, seconds_to_wait=seconds) from error


def attempt_of(context: dg.InputContext | dg.OutputContext) -> int:
    """Which try of its step a value is read or written for; 0 outside of a step."""
    try:
        return context.step_context.previous_attempt_count
    except Exception:  # a context that was built without one says so by one of several errors
        return 0


def _attempt() -> int:
    try:
        context: Any = dg.OpExecutionContext.get()
    except Exception:  # called directly, as tests do
        return 0
    return int(context.retry_number)
