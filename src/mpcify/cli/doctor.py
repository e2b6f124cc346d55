"""mpcify doctor FOLDER: what is wrong with a party's deployed folder, its machine and the way to its peers."""

from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.verb import Answer, table, verb
from mpcify.errors import MpcifyError

COLUMNS = ("check", "", "what was found", "how to fix it")


@verb
def doctor(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The deployed folder of any party.")],
) -> Answer:
    """Check a party's deployed folder, its machine and the way to its peers; for the client, a session with them."""
    from mpcify.cluster.doctor.doctor import examine

    found = examine(folder)
    rows = [(each.check, each.state, each.problem or each.value, each.remedy) for each in found.findings]
    wrong = [each.check for each in found.findings if not each.ok]
    error = None
    if wrong:
        what = f"{len(wrong)} of {len(rows)} checks found something wrong: {', '.join(wrong)}"
        error = MpcifyError(701, str(folder), what, "what stands beside each in the table")
    return Answer(found.to_json(), table(f"{found.role or 'party'}: {folder}", COLUMNS, rows), error)
