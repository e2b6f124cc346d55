"""mpcify party: what each party of a cluster gets."""

from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.options import EngineChoice
from mpcify.cli.verb import Answer, verb

Address = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the others reach it.")]

party = typer.Typer(name="party", help="Deploy a model to parties on machines of their own.", no_args_is_help=True)


@party.command("init")
@verb
def party_init(
    parties: Annotated[Path, typer.Argument(metavar="PARTIES", help="The folder that `export` wrote.")],
    kits: Annotated[Path, typer.Argument(metavar="KITS", help="The folder that `keys` wrote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    choice: EngineChoice,
    owner: Address = None,
    helper: Address = None,
) -> Answer:
    """Write a folder for each party: copy each to its own machine, and to no other."""
    from mpcify.cluster.deploy import write_deployment

    given = {"owner": owner, "helper": helper}
    addresses = {name: address for name, address in given.items() if address is not None}
    made = write_deployment(parties, kits, out, choice.config(), addresses)
    values = {
        "out": str(out),
        "parties": list(made.roles),
        "keys_missing": list(made.lacking),
        "lengths": list(made.lengths),
        "engine": choice.config().to_json(),
    }
    lacking = "".join(f"\nThe {role} puts its key.pem into {out / role / 'kit'}" for role in made.lacking)
    return Answer(values, f"{out}: {', '.join(made.roles)}. Copy each to its own machine, and to no other.{lacking}")
