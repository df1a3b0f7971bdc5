"""Reading pictures that may be slow, or fail for a moment, at once and within a bounded time.

Belongs here: tries, waits, the time limit, and which faults may pass. Not here: where pictures are read from
(``sources``), and what takes the place of one (``substitutes``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from got_core.corpus.decode import ImageError
from got_core.store_faults import StoreUnavailableError

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the second try, doubling from try to try, and the most of them."""
MOST_HUNG = 16
"""Reads that may hang at once: each keeps a thread, which cannot be ended, until the file system answers."""
AT_ONCE = 32
"""Pictures that are read at the same time."""
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_REMOTE_PACKAGES = {"aiohttp", "botocore", "fsspec", "s3fs"}


@dataclass(frozen=True, kw_only=True)
class PictureCare:
    """How much patience a picture gets."""

    retries: int = 3
    """Tries after the first, of faults that may pass."""
    timeout: float = 60.0
    """Seconds for a picture, all tries and waits together; 0 sets no limit."""


class PictureError(Exception):
    """A picture that could not be had. ``reason`` is one of ingestion's, ``slow`` or ``unavailable``."""

    def __init__(self, path: str, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {reason} ({detail})")
        self.path, self.reason, self.detail = path, reason, detail

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason, self.detail)


class HangingStoreError(RuntimeError):
    """So many reads hang that the store, not a picture, is at fault."""


class PatientReader(Generic[K, T]):
    """Reads by key (a path, a row) with retries, back-off and a time limit.

    Args:
        reading: reads a key once.
        care: patience; None: one try without a limit, whose error is passed on as it is.
        name: how errors call a key.
    """

    def __init__(
        self, reading: Callable[[K], T], care: PictureCare | None = None, name: Callable[[K], str] = str
    ) -> None:
        self._reading, self._care, self._name = reading, care, name
        self._hung: list[threading.Thread] = []

    def __call__(self, key: K) -> T:
        """What is read. Raises PictureError where it cannot be had, else as :meth:`all`."""
        (found,) = self.all([key])
        if isinstance(found, Exception):
            raise found
        return found

    def all(self, keys: Sequence[K]) -> list[T | Exception]:
        """What is read of each key, AT_ONCE of them at a time; an error in place of what cannot be had: a
        PictureError, without care the reader's own.

        Raises HangingStoreError where MOST_HUNG earlier reads still hang, and what is no fault of a picture.
        """
        if self._care is None:
            return [self._once(key) for key in keys]
        if not self._care.timeout:
            return [self._tried(key, self._care) for key in keys]
        parts = [keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE)]
        return [found for part in parts for found in self._in_time(part, self._care)]

    def _once(self, key: K) -> T | Exception:
        try:
            return self._reading(key)
        except Exception as error:
            return error

    def _tried(self, key: K, care: PictureCare) -> T | Exception:
        try:
            return self._patiently(key, care, float("inf"))
        except PictureError as error:
            return error

    def _in_time(self, keys: Sequence[K], care: PictureCare) -> list[T | Exception]:
        self._check_hung(keys, care)
        deadline = time.monotonic() + care.timeout
        reads = [self._started(key, care, deadline) for key in keys]
        return [self._answer(key, *read, deadline) for key, read in zip(keys, reads, strict=True)]

    def _check_hung(self, keys: Sequence[K], care: PictureCare) -> None:
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            raise HangingStoreError(
                f"{len(self._hung)} pictures hang, the last before {self._name(keys[0])}: look at the "
                f"network and at the store that holds them, or raise picture_timeout ({care.timeout:g} s)"
            )

    def _started(
        self, key: K, care: PictureCare, deadline: float
    ) -> tuple[threading.Thread, SimpleQueue[T | BaseException]]:
        answer: SimpleQueue[T | BaseException] = SimpleQueue()

        def read() -> None:
            try:
                answer.put(self._patiently(key, care, deadline))
            except BaseException as error:
                answer.put(error)

        # Not a pool: Python waits at its end for a pool's threads, and a read may hang for ever.
        thread = threading.Thread(target=read, name="picture", daemon=True)
        thread.start()
        return thread, answer

    def _answer(
        self,
        key: K,
        thread: threading.Thread,
        answer: SimpleQueue[T | BaseException],
        deadline: float,
    ) -> T | Exception:
        try:
            found = answer.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            self._hung.append(thread)
            limit = 0.0 if self._care is None else self._care.timeout
            return PictureError(self._name(key), "slow", f"not there within {limit:g} s")
        if isinstance(found, BaseException) and not isinstance(found, PictureError):
            raise found
        return found

    def _patiently(self, key: K, care: PictureCare, deadline: float) -> T:
        wait = FIRST_WAIT
        for left in range(care.retries, -1, -1):
            try:
                return self._reading(key)
            except Exception as error:
                fault = picture_fault(self._name(key), error)
                if fault is None:
                    raise
                if not left or not _may_pass(error) or time.monotonic() + wait > deadline:
                    raise fault from error
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        raise AssertionError("unreachable")


def picture_fault(path: str, error: Exception) -> PictureError | None:
    """What is said of a picture; None for errors that are nobody's picture's."""
    if isinstance(error, ImageError):
        return PictureError(path, error.reason, error.detail.removeprefix(f"{path}: "))
    if _may_pass(error):
        return PictureError(path, "unavailable", f"{type(error).__name__}: {error}")
    return None


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ImageError):
        return error.reason == "unreadable"
    remote = type(error).__module__.partition(".")[0] in _REMOTE_PACKAGES
    return remote or isinstance(error, OSError | StoreUnavailableError)
