"""Every finding about a model: what a conversion would change, and what stands in its way."""

from pathlib import Path

from transformers import PreTrainedModel

from mpcify.conversion import check as conversion
from mpcify.conversion.check import Finding, blocker
from mpcify.conversion.convert import convert, model_and_source
from mpcify.errors import MpcifyError
from mpcify.lowering.prove import prove_equal


def check(model: PreTrainedModel | str | Path) -> list[Finding]:
    """Every finding about a model, a folder or a hub name; the model is untouched.

    A student of it is proven to be served as transformers runs it, with the tokenizer or image processor beside it.
    What blocks a conversion is a finding. Raises MPC-201 and MPC-202 if there is no checkpoint to look at.
    """
    findings = conversion.check(model)
    if any(finding.blocks for finding in findings):
        return findings
    try:
        loaded, source = model_and_source(model)
        named = loaded is not model or (source and Path(source).is_dir())
        prove_equal(convert(loaded, "2quad-freediv"), source if named else None)
    except MpcifyError as problem:
        findings.append(blocker(problem))
    return findings
