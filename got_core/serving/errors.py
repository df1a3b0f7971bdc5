"""What goes wrong with a request, in the form that OpenAI's clients turn into their own exceptions.

Belongs here: the errors, and their JSON. Not here: finding faults (`reading`, `gate`).
"""

from __future__ import annotations

import math
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


_LONGEST = 800
"""Characters of a message, at most: it may repeat what was sent."""


class ApiError(HTTPException):
    """A request that is not fulfilled. `param`: the field at fault; `retry_after`: seconds.

    One of FastAPI's own, which it lets through where it reads a body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, message)
        self.message, self.param, self.code, self.retry_after = message, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """As OpenAI's API has it. Text that is no Unicode is shown escaped."""
        whole = self.message.encode("utf-8", "backslashreplace").decode()
        message = whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]}..."
        kind = _KINDS.get(self.status_code, "api_error")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The response as a whole."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status_code == 401 else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return JSONResponse(self.body(), self.status_code, headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Status 400; the field at fault is the first that the message names, unless it is given."""
    named = re.search(r"`(\w+)`", message)
    return ApiError(400, message, param=param or (named[1] if named else None), code=code)


def client_gone() -> ApiError:
    """Status 499, as nginx calls it: nobody reads it, the metrics count it."""
    return ApiError(499, "the client has closed the connection")


def of_exception(error: Exception) -> ApiError:
    """What a caller is told of an exception of reading or drawing."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE":
        return bad_request(error.message)
    if isinstance(error, ValueError | TypeError):
        return bad_request(str(error))
    return ApiError(500, f"drawing failed ({type(error).__name__}); the server's log has more")


def add_handlers(app: FastAPI) -> None:
    """All errors in the one form; what was sent is not repeated in them."""

    @app.exception_handler(ApiError)
    async def _own(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(one) for one in first["loc"][1:]]
        field = where[0][:64] if where else None
        return bad_request(f"{'.'.join(where) or 'body'}: {first['msg']}", param=field).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, ClientDisconnect):  # FastAPI calls it a body that it cannot parse
            return client_gone().response()
        answer = ApiError(error.status_code, str(error.detail)).response()
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return client_gone().response()

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, f"a fault of the server: {type(error).__name__}").response()
