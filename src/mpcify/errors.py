"""Every error that a user can meet: a number, the place, what happened, and what to do.

One line each: `MPC-123 layer 3 attention: what happened. Do this: the remedy.` The command line prints it and exits
with 2. `docs/reference/errors.md` has one entry a number (a test holds the two together).
"""

from typing import Any

CODES: dict[int, str] = {
    # 1xx: files, data and requests
    101: "file not found",
    102: "unreadable data file",
    103: "wrong or missing columns",
    104: "label outside the model's range",
    105: "empty text",
    106: "text too long",
    107: "unreadable image",
    108: "no examples",
    109: "output cannot be written",
    110: "result of another version",
    111: "padding token inside a text",
    # 2xx: checkpoints and conversion
    201: "model not found",
    202: "not a checkpoint",
    203: "unsupported model",
    204: "conversion not proven",
    205: "not finite weights",
    206: "attention customised by something else",
    207: "not a student",
    208: "no tokenizer",
    # 3xx: recipes
    301: "unknown recipe",
    302: "wrong recipe file",
    303: "recipe does not fit the model",
    # 4xx: graphs and ranges
    401: "operation outside the graph's words",
    402: "values overflow the ring",
    403: "private table in a public place",
    404: "wrong graph file",
    405: "length not available",
    406: "ranges not declared",
    # 5xx: engines and protocols
    501: "unknown engine, protocol or setting",
    502: "protocol needs a trusted party",
    503: "engine failed",
    504: "package not installed",
    505: "network cannot be shaped",
    506: "model not open",
    # 6xx: training
    601: "run cannot resume",
    602: "training diverged",
    603: "base does not fit",
    604: "teacher does not fit",
    605: "teacher worse than chance",
    606: "parallel run not started",
    # 7xx: parties on machines of their own
    701: "deployment not usable",
    702: "keys or certificates not usable",
    703: "party not reached",
    704: "party refused",
    705: "parties do not agree",
    706: "party gone",
    707: "message against the protocol",
    708: "service busy",
    709: "request refused",
    710: "known answer missed",
    711: "half of a request missing",
    # 9xx: the command line
    901: "wrong usage",
    902: "interrupted",
    903: "unexpected failure",
}


class MpcifyError(Exception):
    """A user-facing error: `code` from CODES, `where` it happened, `what` happened, and the `remedy`."""

    def __init__(self, code: int, where: str, what: str, remedy: str) -> None:
        if code not in CODES:
            raise KeyError(f"error code {code} is not in the table")
        self.code, self.where, self.what, self.remedy = code, where, what, remedy
        super().__init__(f"MPC-{code} {where}: {what}. Do this: {remedy}".replace("\n", " "))

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is copied, and how it comes back from another process: from its four parts, not from its text."""
        return type(self), (self.code, self.where, self.what, self.remedy), vars(self)


def interrupted(place: str) -> MpcifyError:
    """The error for what SIGINT or SIGTERM ended."""
    remedy = "run the same command again; `distill --resume` and `evaluate --answers` go on where they stopped"
    return MpcifyError(902, place, "interrupted before the end", remedy)


class MpcifyWarning(UserWarning):
    """Something the user should know, and that does not stop the run; one line, same words as an error."""


def gave_up(error: BaseException) -> bool:
    """Whether a library failed: by an Exception, or by a panic of Rust's, which is none."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
