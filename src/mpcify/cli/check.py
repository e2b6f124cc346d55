"""mpcify check MODEL: what a conversion would change, and what stands in its way."""

from mpcify.cli.early import check_model
from mpcify.cli.options import Model
from mpcify.cli.verb import Answer, table, verb
from mpcify.errors import MpcifyError


@verb
def check(model: Model) -> Answer:
    """Show what a conversion would replace and keep; exit code 2 if something stands in its way."""
    check_model(model)
    from mpcify.conversion.check import identify
    from mpcify.lowering.check import check as findings_of

    findings = findings_of(model)
    family, task = identify(model)
    blocker = next((finding for finding in findings if finding.blocks), None)
    values = {
        "model": model,
        "family": family,
        "task": task,
        "ok": blocker is None,
        "findings": [vars(finding) for finding in findings],
    }
    rows = [(finding.kind, finding.module, finding.code, finding.what) for finding in findings]
    title = f"{model}: {'can be converted' if blocker is None else 'cannot be converted'}"
    text = table(title, ("kind", "module", "code", "what"), rows)
    if blocker is None:
        return Answer(values, text)
    code = int(blocker.code.removeprefix("MPC-"))
    return Answer(values, text, MpcifyError(code, blocker.module, blocker.what, blocker.remedy))
