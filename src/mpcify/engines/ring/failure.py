"""The ring engine's failures as one numbered line."""

from mpcify.errors import CODES, MpcifyError

WHERE = "ring engine"
AGAIN = "see why that party ended or did not answer, and ask again: a new session is opened"
SAME = "give every party the same export, the same settings and the same version of mpcify"
REPORT = "check the model with --engine plain, then report this"
LONGEST = 300  # characters of a reason


def failure(error: Exception) -> MpcifyError:
    """The error for what was raised in a party: MPC-706 if a link broke, MPC-707 if a message is wrong, else MPC-503.

    An error with a number stays as it is; of any other no more is said than its kind.
    """
    if isinstance(error, MpcifyError):
        return error
    if isinstance(error, ConnectionError | TimeoutError):
        return MpcifyError(706, WHERE, str(error)[:LONGEST], AGAIN)
    if isinstance(error, ValueError):
        return MpcifyError(707, WHERE, str(error)[:LONGEST], SAME)
    return MpcifyError(503, WHERE, type(error).__name__, REPORT)


def for_peers(role: str, error: BaseException) -> str:
    """Why a party closes its links, as its peers read it: a broken link's own words, else no more than the number."""
    if not isinstance(error, MpcifyError):
        return f"{role} was interrupted"
    return error.what if error.code == 706 else f"{role} failed with MPC-{error.code}, {CODES[error.code]}"
