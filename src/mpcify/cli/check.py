"""mpcify check MODEL: what a conversion would change, and what stands in its way."""

from typing import Any

from mpcify.cli.early import check_model
from mpcify.cli.options import Model
from mpcify.cli.verb import Answer, table, verb
from mpcify.errors import MpcifyError


@verb
def check(model: Model) -> Answer:
    """Show what a conversion would replace and keep; exit code 2 where something stands in its way."""
    check_model(model)
    from mpcify.conversion.check import check as findings_of

    findings = findings_of(model)
    if not any(finding.blocks for finding in findings):
        findings += unproven(model)
    blocker = next((finding for finding in findings if finding.blocks), None)
    values = {
        "model": model,
        **facts(model),
        "ok": blocker is None,
        "findings": [vars(finding) for finding in findings],
    }
    rows = [(finding.kind, finding.module, finding.code, finding.what) for finding in findings]
    title = f"{model}: {'can be converted' if blocker is None else 'cannot be converted'}"
    text = table(title, ("kind", "module", "code", "what"), rows)
    if blocker is None:
        return Answer(values, text)
    number = int(blocker.code.removeprefix("MPC-"))
    return Answer(values, text, MpcifyError(number, blocker.module, blocker.what, blocker.remedy))


def unproven(model: str) -> list[Any]:
    """The blocker of a model whose graph does not answer as it does; nothing is tried where tests cover the family."""
    from mpcify.conversion.check import Finding
    from mpcify.conversion.convert import convert, load_model
    from mpcify.conversion.families import TESTED
    from mpcify.proof import prove_equal

    if facts(model)["family"] in TESTED:
        return []
    try:
        prove_equal(convert(load_model(model), "2quad-freediv"))
    except MpcifyError as problem:
        return [Finding(f"MPC-{problem.code}", problem.where, "not-yet", problem.what, problem.remedy)]
    return []


def facts(model: str) -> dict[str, Any]:
    """Family and task, from the config alone; no task where it is not one of ours."""
    from mpcify.conversion.convert import read_config, task_of

    config = read_config(model)
    try:
        task = task_of(config, (config.architectures or [""])[0])
    except MpcifyError:
        task = None
    return {"family": config.model_type, "task": task}
