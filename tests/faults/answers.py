"""What real servers answer when they do not do what they are asked to.

Belongs here: status, headers and bodies as S3 and OpenAI-compatible servers send them. Not here: when they
are sent (`rules`).
"""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from tests.faults.rules import Answer


def s3_error(status: int, code: str, message: str, extra: str = "", **headers: str) -> Answer:
    """An error of S3, whose `extra` members are XML already."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message)}'
        f"</Message>{extra}<RequestId>4442587FB7D0A2F9</RequestId><HostId>aHn1</HostId></Error>"
    )
    return Answer(status=status, body=body.encode(), headers={"Content-Type": "application/xml", **headers})


SLOW_DOWN = s3_error(503, "SlowDown", "Please reduce your request rate.")
INTERNAL_ERROR = s3_error(500, "InternalError", "We encountered an internal error. Please try again.")
ACCESS_DENIED = s3_error(403, "AccessDenied", "Access Denied")
EXPIRED_TOKEN = s3_error(400, "ExpiredToken", "The provided token has expired.")
EXPIRED_CREDENTIALS = s3_error(403, "RequestExpired", "Request has expired.")
NO_SUCH_KEY = s3_error(404, "NoSuchKey", "The specified key does not exist.")


def not_deleted(*keys: str) -> Answer:
    """What S3 answers to a bulk delete of which it has kept these objects."""
    why = "<Code>AccessDenied</Code><Message>Access Denied</Message>"
    kept = "".join(f"<Error><Key>{escape(key)}</Key>{why}</Error>" for key in keys)
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult>{kept}</DeleteResult>'
    return Answer(status=200, body=body.encode(), headers={"Content-Type": "application/xml"})


def time_too_skewed(server_time: str) -> Answer:
    """What S3 answers to a request that was signed at another time than it is."""
    allowed = "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"
    extra = f"<ServerTime>{server_time}</ServerTime>{allowed}"
    message = "The difference between the request time and the current time is too large."
    return s3_error(403, "RequestTimeTooSkewed", message, extra)


def model_error(status: int, message: str, kind: str = "invalid_request_error", **headers: str) -> Answer:
    """An error in OpenAI's form."""
    error = {"message": message, "type": kind, "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    return Answer(status=status, body=body, headers={"Content-Type": "application/json", **headers})


BAD_REQUEST = model_error(400, "Bad request")
UNAUTHORIZED = model_error(401, "Incorrect API key provided.", "authentication_error")
NO_MODEL = model_error(404, "The model `eyes` does not exist.", "NotFoundError")
SERVER_ERROR = model_error(500, "Internal server error", "server_error")
OVERLOADED = model_error(503, "The server is overloaded", "server_error")
BAD_GATEWAY = Answer(
    status=502,
    body=b"<html><head><title>502 Bad Gateway</title></head></html>",
    headers={"Content-Type": "text/html"},
)
MAINTENANCE = Answer(status=200, body=b"<html>maintenance</html>", headers={"Content-Type": "text/html"})
TOO_LARGE = Answer(
    status=413,
    body=b"<html><head><title>413 Request Entity Too Large</title></head></html>",
    headers={"Content-Type": "text/html"},
)


def too_many_requests(seconds: float) -> Answer:
    """429 that says when to come back."""
    headers = {"Retry-After": f"{seconds:g}"}
    return model_error(429, "Rate limit reached", "rate_limit_error", **headers)
