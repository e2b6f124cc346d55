"""SPU's failures as one numbered line."""

import re

from mpcify.errors import CODES, MpcifyError

WHERE = "spu engine"
AGAIN = "see why that party ended or did not answer, and ask again: a new session is opened"
SAME = "give every party the same export, the same settings and the same versions of mpcify and SPU"
REPORT = "check the model with --engine fixed, then report this"
LONGEST = 300  # characters of a reason
INSTALL = "pip install 'mpcify[spu]', and the system package libgomp1"


def failure(error: Exception) -> MpcifyError:
    """The error for what was raised in a party: MPC-504 if SPU cannot be loaded, MPC-706 if a link broke, else MPC-503.

    An error with a number stays as it is.
    """
    if isinstance(error, MpcifyError):
        return error
    if isinstance(error, ImportError):
        return MpcifyError(504, WHERE, reason(error), INSTALL)
    if isinstance(error, ConnectionError | TimeoutError):
        return MpcifyError(706, WHERE, str(error)[:LONGEST], AGAIN)
    return MpcifyError(503, WHERE, reason(error), REPORT)


def for_peers(role: str, error: BaseException) -> str:
    """Why a party closes its links, as its peers read it: a broken link's own words, else no more than the number."""
    if not isinstance(error, MpcifyError):
        return f"{role} was interrupted"
    return error.what if error.code == 706 else f"{role} failed with MPC-{error.code}, {CODES[error.code]}"


def reason(error: Exception) -> str:
    """An exception in one line; of SPU's message without its source location and C++ stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and line != "what:"), "")
    message = re.sub(r"^\[[^\]]*\] *", "", text)
    return f"{type(error).__name__}: {message}"[:LONGEST]
