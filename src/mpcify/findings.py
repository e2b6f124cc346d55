"""Every finding about a model: what a conversion would change, and what stands in its way."""

from pathlib import Path

from transformers import PreTrainedModel

from mpcify.conversion import check as conversion
from mpcify.conversion.check import FAMILY, Finding, blocker
from mpcify.conversion.convert import convert
from mpcify.errors import MpcifyError
from mpcify.proof import prove_equal


def check(model: PreTrainedModel | str | Path) -> list[Finding]:
    """Every finding about a model, a folder or a hub name; the model is untouched.

    If no test covers the family, the graph of a student is proven to answer as the student does. What blocks a
    conversion is a finding. Raises MPC-201 and MPC-202 if there is no checkpoint to look at.
    """
    findings = conversion.check(model)
    if any(finding.code == FAMILY for finding in findings):
        try:
            prove_equal(convert(model, "2quad-freediv"))
        except MpcifyError as problem:
            findings.append(blocker(problem))
    return findings
