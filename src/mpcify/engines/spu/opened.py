"""What a compiled program may do: nothing that opens a value. SPU's own rules would let it.

A program is text, one operation a line. Every line must be of a known form, every operation one of those that the kinds
of a graph become, and whatever reads a secret must give secrets. SPU's sorts, gathers and writes at secret places are
none of them: they open something on their way.
"""

import re
from collections.abc import Sequence

from mpcify.engines.spu.failure import REPORT, WHERE
from mpcify.errors import MpcifyError

OPERATIONS = {
    *("abs", "add", "bitcast_convert", "broadcast", "concatenate", "constant", "convert", "custom_call mhlo.erf"),
    *("divide", "dot", "dot_general", "exponential", "free", "less", "multiply", "negate", "pad", "reciprocal"),
    *("reduce", "reshape", "return", "select", "slice", "subtract", "tanh", "transpose"),
}
SECRET = "!pphlo.secret<"
TYPE = r"tensor<(?:\d+x)*(?:!pphlo\.secret<\w+>|\w+)>"
TYPES = rf"\(?{TYPE}(?:, {TYPE})*\)?"
ARGUMENTS = rf"\((?:%\w+: {TYPE}(?:, )?)*\)"
FORMS = {
    "module": re.compile(r"module @\w+ attributes \{[^{}]*\} \{"),
    "function": re.compile(rf"func\.func @main(?P<arguments>{ARGUMENTS}) -> (?P<results>{TYPES}) \{{"),
    "region": re.compile(rf"reducer{ARGUMENTS} *\{{"),
    "end": re.compile(r"\}"),
    "result": re.compile(rf"return %.* : {TYPES}"),
    "operation": re.compile(
        r"(?:%\w+ = )?pphlo\.(?P<name>\w+)\b(?: @(?P<call>[\w.]+))?.* : "
        rf"(?:(?P<arguments>{TYPES}) -> )?(?P<results>{TYPES})"
    ),
}


def refuse_opened(code: str, inputs: Sequence[bool], outputs: Sequence[bool]) -> None:
    """Raises MPC-503, with the operation's name, for a program that opens a value, or that may.

    inputs, outputs: for each whether it is secret. The outputs' shares are the client's to rebuild.
    """
    functions = 0
    for line in filter(None, map(str.strip, code.splitlines())):
        form, match = form_of(line)
        if form == "function":
            functions += 1
            results = secrets(match["results"])
            if secrets(match["arguments"]) != [*inputs] or len(results) != len(outputs):
                raise opens("main, which has other inputs or outputs")
            if any(must and not result for must, result in zip(outputs, results, strict=True)):
                raise opens("return")
        elif form == "operation":
            name = match["name"] if match["call"] is None else f"{match['name']} {match['call']}"
            reads, gives = secrets(match["arguments"] or ""), secrets(match["results"])
            if name not in OPERATIONS or (any(reads) and not all(gives)):
                raise opens(name)
    if functions != 1:
        raise opens("a second function, or none")


def form_of(line: str) -> tuple[str, re.Match[str]]:
    """Which of the forms a line has. Raises MPC-503 for one that has none."""
    for form, pattern in FORMS.items():
        if match := pattern.fullmatch(line):
            return form, match
    raise opens(" ".join(line.split()[:3]).split("(")[0])


def secrets(types: str) -> list[bool]:
    """For each type in a text whether it is secret."""
    return [SECRET in found for found in re.findall(TYPE, types)]


def opens(what: str) -> MpcifyError:
    """The error for a program that SPU compiled to something else than what a graph becomes."""
    return MpcifyError(503, WHERE, f"the compiled program may open a value: {what}", REPORT)
