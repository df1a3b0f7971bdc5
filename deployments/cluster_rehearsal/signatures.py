"""Whether a request to the S3 server is signed with its key, by Signature Version 4.

It stands in the Authorization header, or in the query of a presigned address, by which MLflow's clients read.

Belongs here: the check of one request's head. Not here: what a key may do, the server (`store`). The body is
not hashed again: what its head says of it is signed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from botocore.auth import UNSIGNED_PAYLOAD, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

OLDEST = timedelta(minutes=15)
"""A request's age at most, as at S3."""
_CREDENTIAL = re.compile(r"(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/s3/aws4_request")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/\d{8}/(?P<region>[^/,]+)/s3/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})$"
)


def is_signed(method: str, target: str, headers: Mapping[str, str], key: str, secret: str) -> bool:
    """Whether a request (its target as it came) has the signature of this key, and is of these minutes.

    ``headers`` are looked up in any case of letters.
    """
    if "X-Amz-Signature=" in target:
        return _is_presigned(method, target, headers, key, secret)
    given = _AUTHORIZATION.match(headers.get("Authorization") or "")
    if given is None or given["key"] != key:
        return False
    names = given["headers"].split(";")
    if not {"host", "x-amz-date", "x-amz-content-sha256"} <= {*names}:
        return False
    moment = headers.get("x-amz-date") or ""
    try:
        age = datetime.now(UTC) - datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    signed = {name: headers.get(name) or "" for name in names}
    request = AWSRequest(method, f"http://{headers.get('Host')}{target}", headers=signed)
    request.context["timestamp"] = moment
    signer = _Signer(Credentials(key, secret), "s3", given["region"])
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return abs(age) < OLDEST and hmac.compare_digest(signer.signature(text, request), given["signature"])


def _is_presigned(method: str, target: str, headers: Mapping[str, str], key: str, secret: str) -> bool:
    """The same of an address that was signed for somebody else, and holds for as long as it says."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    given = _CREDENTIAL.fullmatch(query.get("X-Amz-Credential", ""))
    if given is None or given["key"] != key:
        return False
    names = query.get("X-Amz-SignedHeaders", "").split(";")
    moment, seconds = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
    try:
        age = datetime.now(UTC) - datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lasts = timedelta(seconds=int(seconds))
    except (ValueError, OverflowError):
        return False
    if "host" not in names or not -OLDEST < age < lasts:
        return False
    bare = re.sub(r"&?X-Amz-Signature=[0-9a-f]*", "", target)
    signed = {name: headers.get(name) or "" for name in names}
    request = AWSRequest(method, f"http://{headers.get('Host')}{bare}", headers=signed)
    request.context["timestamp"] = moment
    signer = _PresigningSigner(Credentials(key, secret), "s3", given["region"])
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return hmac.compare_digest(signer.signature(text, request), query["X-Amz-Signature"])


class _Signer(S3SigV4Auth):
    """Signs exactly those headers that the client says that it has signed."""

    def headers_to_sign(self, request: AWSRequest) -> Mapping[str, str]:
        return request.headers


class _PresigningSigner(_Signer):
    """What is sent to a presigned address is not known when it is signed."""

    def payload(self, request: AWSRequest) -> str:
        return UNSIGNED_PAYLOAD
