"""What the doctor found: one finding a check. A check that fails hides no other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mpcify.errors import MpcifyError

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """What one check found. ok: nothing is wrong; if there is a problem all the same, it is one to come.

    remedy: what to do about the problem. value: what was seen. Nothing secret stands in any of them.
    """

    check: str
    ok: bool
    problem: str = ""
    remedy: str = ""
    value: str = ""

    @property
    def state(self) -> str:
        """One word for people."""
        return ("warning" if self.problem else "ok") if self.ok else "wrong"

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return vars(self)


class Findings:
    """The findings so far, in the order of the checks."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def check(self, name: str, look: Callable[[], T], told: Callable[[T], str | None] = str) -> T | None:
        """What `look` gives; None if it raises, which is a finding. told: the value that the finding has of it; None if
        it is none.
        """
        try:
            found = look()
            if (value := told(found)) is not None:
                self.all.append(Finding(name, True, value=value))
            return found
        except MpcifyError as error:
            self.wrong(name, f"MPC-{error.code} {error.where}: {error.what}", error.remedy)
        except OSError as error:
            self.wrong(name, f"the system refuses it: {error.strerror}", "run as the user that the party runs as")
        except Exception as error:
            self.wrong(name, f"the check itself failed ({type(error).__name__})", "report it, with the command")
        return None

    def wrong(self, name: str, problem: str, remedy: str) -> None:
        """Something is wrong."""
        self.all.append(Finding(name, False, problem, remedy))

    def warn(self, problem: str, remedy: str) -> None:
        """Adds to the last finding, which found nothing wrong, what will go wrong, or may."""
        last = self.all[-1]
        self.all[-1] = Finding(last.check, True, problem, remedy, last.value)
