"""A store that cannot be reached, as opposed to a file that is not there.

Belongs here: the error, what an S3 store's refusals mean, and advice. Not here: noticing them
(`s3_filesystem`).
"""

from __future__ import annotations

from typing import Any


class StoreUnavailableError(RuntimeError):
    """A store could not be reached: no verdict on any file. The message names the store and what to do.

    No OSError on purpose: those are faults of one file, and become a row's verdict.
    """


_ABOUT_THE_OBJECT = {
    *("NoSuchKey", "404", "NoSuchVersion", "InvalidObjectState", "KeyTooLongError", "EntityTooLarge"),
    *("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "InvalidRange", "416"),
    *("BucketAlreadyExists", "BucketAlreadyOwnedByYou", "NoSuchUpload", "MethodNotAllowed", "405"),
}
"""Codes of answers about one object or name; all others mean that the store could not be used."""


def refusal(response: dict[str, Any]) -> str | None:
    """Why an S3 store refused a request; None where the response is about one object."""
    found = response.get("Error", {})
    code = str(found.get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode") or "unknown")
    if code in _ABOUT_THE_OBJECT:
        return None
    bucket = f" ({found['BucketName']})" if found.get("BucketName") else ""
    return f"it answered {code}{bucket}: {found.get('Message') or 'no reason given'}"


_ADVICE = {
    "NoSuchBucket": "make the bucket, or correct the URL",
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "InvalidAccessKeyId": "correct the credentials",
    "SignatureDoesNotMatch": "correct the credentials",
    "ExpiredToken": "renew the credentials",
    "AccessDenied": "let these credentials read and write there",
    "403": "let these credentials read and write there",
}


def unavailable(endpoint: str | None, why: str) -> StoreUnavailableError:
    """The error of an S3 store at an endpoint (None: AWS), with advice."""
    where = f"{endpoint} (GOT_S3_ENDPOINT)" if endpoint else "AWS (GOT_S3_ENDPOINT is not set)"
    known = next((advice for code, advice in _ADVICE.items() if code in why), None)
    advice = known or "see that it is up and reachable from here"
    return StoreUnavailableError(
        f"the S3 store at {where} could not be used: {why}; {advice}, then run it again: what is done is kept"
    )
