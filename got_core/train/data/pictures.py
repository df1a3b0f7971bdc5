"""Opening pictures that may be slow, or fail for a moment, within a bounded time.

Belongs here: tries, waits, the time limit, and which faults may pass. Not here: reading and decoding
(``got_core.corpus.reader``), and what takes the place of a picture (``substitutes``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from PIL import Image

from got_core.corpus.decode import ImageError
from got_core.store_faults import StoreUnavailableError

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before the second try, doubling from try to try, and the most of them."""
MOST_HUNG = 16
"""Reads that may hang at once: each keeps a thread, which cannot be ended, until the file system answers."""

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


class PictureOpener:
    """Opens pictures by path with retries, back-off and a time limit.

    Args:
        opening: opens a path once.
        care: patience; None: one try without a limit, whose error is passed on as it is.
    """

    def __init__(self, opening: Callable[[str], Image.Image], care: PictureCare | None = None) -> None:
        self._opening, self._care = opening, care
        self._hung: list[threading.Thread] = []

    def __call__(self, path: str) -> Image.Image:
        """The picture.

        Raises PictureError where it cannot be had, HangingStoreError where MOST_HUNG earlier ones still hang.
        """
        if self._care is None:
            return self._opening(path)
        if not self._care.timeout:
            return self._patiently(path, self._care, float("inf"))
        return self._in_time(path, self._care)

    def _in_time(self, path: str, care: PictureCare) -> Image.Image:
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            raise HangingStoreError(
                f"{len(self._hung)} pictures hang, the last before {path}: look at the network and at the "
                f"store that holds them, or raise picture_timeout ({care.timeout:g} s)"
            )
        answer: SimpleQueue[Image.Image | BaseException] = SimpleQueue()
        deadline = time.monotonic() + care.timeout

        def read() -> None:
            try:
                answer.put(self._patiently(path, care, deadline))
            except BaseException as error:
                answer.put(error)

        # Not a pool: Python waits at its end for a pool's threads, and a read may hang for ever.
        thread = threading.Thread(target=read, name="picture", daemon=True)
        thread.start()
        try:
            found = answer.get(timeout=care.timeout)
        except Empty:
            self._hung.append(thread)
            raise PictureError(path, "slow", f"not there within {care.timeout:g} s") from None
        if isinstance(found, BaseException):
            raise found
        return found

    def _patiently(self, path: str, care: PictureCare, deadline: float) -> Image.Image:
        wait = FIRST_WAIT
        for left in range(care.retries, -1, -1):
            try:
                return self._opening(path)
            except Exception as error:
                fault = _fault(path, error)
                if fault is None:
                    raise
                if not left or not _may_pass(error) or time.monotonic() + wait > deadline:
                    raise fault from error
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        raise AssertionError("unreachable")


def _fault(path: str, error: Exception) -> PictureError | None:
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
