"""Whether a request to the S3 server is signed with its key: Signature Version 4 in the Authorization header.

Belongs here: the check of one request's head. Not here: what a key may do, the server (`store`). The body is
not hashed again: what its head says of it is signed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

OLDEST = timedelta(minutes=15)
"""A request's age at most, as at S3."""
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/\d{8}/(?P<region>[^/,]+)/s3/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})$"
)


def is_signed(method: str, target: str, headers: Mapping[str, str], key: str, secret: str) -> bool:
    """Whether a request (its target as it came) has the signature of this key, and is of these minutes.

    ``headers`` are looked up in any case of letters.
    """
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


class _Signer(S3SigV4Auth):
    """Signs exactly those headers that the client says that it has signed."""

    def headers_to_sign(self, request: AWSRequest) -> Mapping[str, str]:
        return request.headers
