"""SPU's failures as one numbered line."""

import re

from mpcify.errors import MpcifyError

WHERE = "spu engine"
RESTART = "see why the other party ended or did not answer, and start all parties again"
REPORT = "check the model with --engine fixed, then report this"
INSTALL = "pip install 'mpcify[spu]', and the system package libgomp1"


def failure(error: Exception) -> MpcifyError:
    """The error for what was raised in a party: MPC-504 if SPU cannot be loaded, else MPC-503, or as it was raised."""
    if isinstance(error, MpcifyError):
        return error
    if isinstance(error, ImportError):
        return MpcifyError(504, WHERE, reason(error), INSTALL)
    remedy = RESTART if isinstance(error, ConnectionError | TimeoutError) else REPORT
    return MpcifyError(503, WHERE, reason(error), remedy)


def reason(error: Exception) -> str:
    """An exception in one line; of SPU's message without its source location and C++ stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and line != "what:"), "")
    message = re.sub(r"^\[[^\]]*\] *", "", text)
    return f"{type(error).__name__}: {message}"[:300]
