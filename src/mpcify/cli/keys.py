"""mpcify keys: the authority, and the kits of the parties."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpcify.cli.verb import Answer, table, verb

if TYPE_CHECKING:
    from mpcify.cluster.keys import Kit, Signed

Kits = Annotated[
    Path, typer.Argument(metavar="KITS", help="The folder that `keys init` wrote; the authority is there.")
]
Party = Annotated[str, typer.Argument(metavar="NAME", help="A party.")]
Named = Annotated[str, typer.Option("--name", metavar="NAME", help="The party that the key is of.")]

keys = typer.Typer(name="keys", help="Make and renew the parties' keys and certificates.", no_args_is_help=True)


@keys.command("init")
@verb
def keys_init(
    folder: Annotated[Path, typer.Argument(metavar="KITS", help="A new folder.")],
    names: Annotated[str, typer.Option(metavar="NAME,NAME…", help="The engine's parties.")] = "client,owner,helper",
) -> Answer:
    """Make an authority of your own, and a kit for each party."""
    from mpcify.cluster.authority import create_kits

    return answer(folder, create_kits(folder, names.split(",")))


@keys.command("add")
@verb
def keys_add(folder: Kits, name: Party) -> Answer:
    """Make the kit of one more party."""
    from mpcify.cluster.authority import add_kit

    return answer(folder, [add_kit(folder, name)])


@keys.command("csr")
@verb
def keys_csr(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the key, or a kit that is there.")],
    name: Named,
) -> Answer:
    """On a party's own machine: make a key that stays there, and a request to sign it."""
    from mpcify.cluster.authority import REQUEST, request

    digest = request(folder, name).hex()
    text = f"{folder / REQUEST}: the request of {name}. SHA-256 of its public key: {digest}"
    return Answer({"folder": str(folder), "request": str(folder / REQUEST), "name": name, "key_sha256": digest}, text)


@keys.command("sign")
@verb
def keys_sign(
    folder: Kits,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request.csr of a party.")],
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="A new folder. Default: KITS/NAME.")] = None,
    *,
    name: Named,
) -> Answer:
    """Where the authority is: sign a party's request. What is written is carried back to it."""
    from mpcify.cluster.authority import sign

    signed, digest = sign(folder, request, name, out)
    place = folder / name if out is None else out
    made = answer(place, [signed])
    return Answer({**made.values, "key_sha256": digest.hex()}, f"{place}: for the public key {digest.hex()} (SHA-256)")


@keys.command("accept")
@verb
def keys_accept(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the key is.")],
    signed: Annotated[Path, typer.Argument(metavar="SIGNED", help="What was signed, or a renewed kit.")],
) -> Answer:
    """On a party's own machine: put what was signed to its key, or a renewed kit in place of the old one."""
    from mpcify.cluster.authority import accept

    return answer(folder, [accept(folder, signed)])


@keys.command("renew")
@verb
def keys_renew(
    folder: Kits,
    name: Party,
    kit: Annotated[Path | None, typer.Argument(metavar="KIT", help="Where the kit is. Default: KITS/NAME.")] = None,
) -> Answer:
    """Give a kit a new key and a new certificate; a service that runs takes them at its next connection."""
    from mpcify.cluster.authority import renew_kit

    return answer(folder if kit is None else kit, [renew_kit(folder, name, kit)])


def answer(folder: Path, made: "list[Kit] | list[Signed]") -> Answer:
    """What is public of kits."""
    rows: list[dict[str, Any]] = [{"name": kit.name, "not_after": kit.not_after.isoformat()} for kit in made]
    cells = [(row["name"], row["not_after"]) for row in rows]
    return Answer({"folder": str(folder), "kits": rows}, table(str(folder), ("party", "valid until"), cells))
