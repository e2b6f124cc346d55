"""Requests that are not answered: their HTTP status, and the JSON that says why."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from mpcify.errors import MpcifyError

BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, TIMED_OUT, TOO_LARGE, MEDIA_TYPE, MISDIRECTED = 400, 401, 404, 408, 413, 415, 421
CONFLICT = 409
CLOSED, FAILED, BAD_GATEWAY, UNAVAILABLE = 499, 500, 502, 503
REFUSED_INPUT = 422
STATUS = {
    506: UNAVAILABLE,
    703: UNAVAILABLE,
    704: BAD_GATEWAY,
    705: BAD_GATEWAY,
    706: UNAVAILABLE,
    707: BAD_GATEWAY,
    708: UNAVAILABLE,
    711: CONFLICT,
}
AGAIN = "5"  # seconds after which a caller may ask a service that was not there


class RefusedError(Exception):
    """A request that the gateway itself refuses. status: of HTTP. headers: of the answer."""

    def __init__(self, status: int, error: MpcifyError, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.error, self.headers = status, error, dict(headers or {})
        super().__init__(str(error))


def refused(status: int, what: str, remedy: str, **headers: str) -> RefusedError:
    """What MPC-709 says of a request. headers: of the answer, with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RefusedError(status, MpcifyError(709, "request", what, remedy), named)


def refusal_of(error: Exception) -> RefusedError:
    """Any error as what its caller gets; of one that nobody foresaw the type's name alone, as its text may quote."""
    if isinstance(error, RefusedError):
        return error
    if not isinstance(error, MpcifyError):
        remedy = "see the gateway's log, and report it with that line"
        return RefusedError(FAILED, MpcifyError(903, "gateway", type(error).__name__, remedy))
    status = REFUSED_INPUT if error.code < 200 else STATUS.get(error.code, FAILED)
    return RefusedError(status, error, {"Retry-After": AGAIN} if status == UNAVAILABLE else None)


def response_of(refusal: RefusedError) -> JSONResponse:
    """The answer: {"format": 1, "error": {"code", "where", "what", "remedy"}}."""
    error = refusal.error
    values: dict[str, Any] = {"code": f"MPC-{error.code}", "where": error.where, "what": error.what}
    values["remedy"] = error.remedy
    return JSONResponse({"format": 1, "error": values}, refusal.status, refusal.headers)
