"""A store that cannot be used, as opposed to a file that is not there or is damaged.

Belongs here: the error, what an S3 store's refusals and an operating system's errors mean, and advice. Not
here: noticing them (`s3_filesystem`, `local_files`, `corpus.reader`).
"""

from __future__ import annotations

import errno
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


class StoreUnavailableError(RuntimeError):
    """A store could not be used: no verdict on any file. The message names the store and what to do.

    `retryable`: trying again soon may help, without anybody's doing. No OSError on purpose: those are faults
    of one file, and become a row's verdict.
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


# S3

_ABOUT_THE_OBJECT = {
    *("NoSuchKey", "404", "NoSuchVersion", "InvalidObjectState", "KeyTooLongError", "EntityTooLarge"),
    *("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "InvalidRange", "416"),
    *("BucketAlreadyExists", "BucketAlreadyOwnedByYou", "NoSuchUpload", "MethodNotAllowed", "405"),
}
"""Codes of answers about one object or name; all others mean that the store could not be used."""
_SKEW_SECONDS = 15 * 60
"""S3 refuses what is signed at a time further off than this."""


def refusal(response: dict[str, Any]) -> str | None:
    """Why an S3 store refused a request; None where the response is about one object.

    An answer to HEAD has no body that says why: where the store's clock is far from this machine's, that is
    taken for the reason.
    """
    found, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    code = str(found.get("Code") or about.get("HTTPStatusCode") or "unknown")
    if code in _ABOUT_THE_OBJECT:
        return None
    bucket = f" ({found['BucketName']})" if found.get("BucketName") else ""
    said = f"it answered {code}{bucket}: {found.get('Message') or 'no reason given'}"
    ahead = _seconds_ahead(about.get("HTTPHeaders", {}).get("date"))
    if code in ("403", "RequestTimeTooSkewed") and abs(ahead) > _SKEW_SECONDS:
        side = "behind" if ahead > 0 else "ahead of"
        clocks = f"this machine's clock is {abs(ahead) / 60:.0f} min {side} the store's"
        said += f" (RequestTimeTooSkewed: {clocks})"
    return said


def _seconds_ahead(date: str | None) -> float:
    """How far a store's clock is ahead of this machine's."""
    with suppress(ValueError, TypeError):
        return (parsedate_to_datetime(date or "") - datetime.now(UTC)).total_seconds()
    return 0.0


_ADVICE = {
    "RequestTimeTooSkewed": "set this machine's clock (NTP)",
    "NoSuchBucket": "make the bucket, or correct the URL",
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "InvalidAccessKeyId": "correct the credentials",
    "SignatureDoesNotMatch": "correct the credentials",
    "ExpiredToken": "renew the credentials",
    "RequestExpired": "renew the credentials",
    "InvalidToken": "renew the credentials",
    "TokenRefreshRequired": "renew the credentials",
    "AccessDenied": "let these credentials read and write there",
    " 403": "let these credentials read and write there; if they could before, renew them",
    " 400": "see that the credentials have not expired",
    " 401": "correct the credentials",
}
"""What helps, by code; waiting does not."""
_WHAT_IS_KEPT = "then run it again: what is done is kept"
_BUSY = ("SlowDown", "503", "429", "TooManyRequests", "RequestLimitExceeded", "Throttling")


def unavailable(endpoint: str | None, why: str) -> StoreUnavailableError:
    """The error of an S3 store at an endpoint (None: AWS), with advice."""
    where = f"{endpoint} (GOT_S3_ENDPOINT)" if endpoint else "AWS (GOT_S3_ENDPOINT is not set)"
    known = next((advice for code, advice in _ADVICE.items() if code in why), None)
    busy = "it is busy: wait a while" if any(code in why for code in _BUSY) else None
    advice = known or busy or "see that it is up and reachable from here"
    return StoreUnavailableError(
        f"the S3 store at {where} could not be used: {why}; {advice}, {_WHAT_IS_KEPT}",
        retryable=known is None,
    )


# The operating system

_ABOUT_THE_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ),
    *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EFBIG, errno.EOVERFLOW),
    *(errno.EEXIST, errno.ENOTEMPTY),
}
"""Errors about one file or name; all others are the machine's, its disk's or its network's."""
_HELP = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EROFS: "mount it for writing",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close what holds files open",
    errno.ENOMEM: "free some memory",
    errno.EIO: "look at the disk or the mount; take the file away if it alone cannot be read",
}
_NEEDS_SOMEBODY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def is_machine_fault(error: BaseException) -> bool:
    """Whether an error says nothing about the file or name that was asked for."""
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _ABOUT_THE_FILE


def machine_fault(error: OSError, what: str) -> StoreUnavailableError:
    """The error for a fault of this machine, its disk or a mount; `what` could not be done, in words."""
    help_ = _HELP.get(error.errno or 0, "look at the disk or the mount")
    return StoreUnavailableError(
        f"{what}: {error.strerror or error}; {help_}, {_WHAT_IS_KEPT}",
        retryable=error.errno not in _NEEDS_SOMEBODY,
    )
