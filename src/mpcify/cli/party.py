"""mpcify party: what each party of a cluster gets, and the parties at work."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.options import EngineChoice
from mpcify.cli.verb import Answer, verb
from mpcify.progress import say

Address = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the others reach it.")]
ThirdAddress = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Where the others reach it, for an engine that has this party.")
]
ThinUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Where thin clients reach it, if --inputs are delegated: https://…")
]

party = typer.Typer(name="party", help="Deploy a model to parties on machines of their own.", no_args_is_help=True)


@party.command("init")
@verb
def party_init(
    parties: Annotated[Path, typer.Argument(metavar="PARTIES", help="The folder that `export` wrote.")],
    kits: Annotated[Path, typer.Argument(metavar="KITS", help="The folder that `keys` wrote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    choice: EngineChoice,
    owner: Address = None,
    helper: ThirdAddress = None,
    dealer: ThirdAddress = None,
    thin_delegate: ThinUrl = None,
    thin_owner: ThinUrl = None,
) -> Answer:
    """Write a folder for each party: copy each to its own machine, and to no other."""
    from mpcify.cluster.deploy import write_deployment

    given = {"owner": owner, "helper": helper, "dealer": dealer}
    addresses = {name: address for name, address in given.items() if address is not None}
    places = {"delegate": thin_delegate, "owner": thin_owner}
    urls = {name: url for name, url in places.items() if url is not None}
    made = write_deployment(parties, kits, out, choice.config(), addresses, urls=urls)
    values = {
        "out": str(out),
        "parties": list(made.roles),
        "thin": made.thin,
        "keys_missing": list(made.lacking),
        "lengths": list(made.lengths),
        "engine": choice.config().to_json(),
    }
    lacking = "".join(f"\nThe {role} puts its key.pem into {out / role / 'kit'}" for role in made.lacking)
    folders = [*made.roles, "thin"] if made.thin else made.roles
    return Answer(values, f"{out}: {', '.join(folders)}. Copy each to its own machine, and to no other.{lacking}")


class LogForm(StrEnum):
    """How a party writes its log."""

    json = "json"
    text = "text"


@party.command("serve")
@verb
def party_serve(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A party's deployed folder, but not the client's.")],
    log: Annotated[LogForm, typer.Option(help="json: an object a line on stderr; text: for people.")] = LogForm.json,
) -> Answer:
    """Serve a party's part to the client, until SIGTERM or Ctrl-C; a request that runs then is answered first."""
    from mpcify.cluster.deployed import serve
    from mpcify.files import forbid_core_dumps

    forbid_core_dumps()
    answered = serve(folder, log.value)
    return Answer({"answered": answered}, f"{answered} requests were answered")


@party.command("up")
@verb
def party_up(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that `party init` wrote.")],
) -> Answer:
    """Run all parties but the client as processes of this machine, for a try, until Ctrl-C or one of them ends."""
    from mpcify.cluster.local import LocalParties
    from mpcify.errors import MpcifyError

    with LocalParties(folder, say) as parties:
        say(f"ready: in another terminal, {parties.next_step}")
        try:
            ended = parties.wait()
        except KeyboardInterrupt:
            return Answer({"parties": list(parties.roles)}, "the parties have stopped")
        raise MpcifyError(
            706, f"party {ended}", "its process ended", f"see its log: mpcify party serve {folder / ended}"
        )
