"""mpcify gateway FOLDER: the private model by HTTP, for the programs of the client's own machine."""

from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.party import LogForm
from mpcify.cli.verb import Answer, verb

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The deployed folder of the client.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0: any port that is free.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens: an address of the loopback.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the token; made if it is not there. Default: FOLDER/gateway-token."),
]


KnownAnswers = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSONL of known answers, one of which is asked for every 5 minutes.")
]
LogOption = Annotated[LogForm, typer.Option(help="json: an object a line on stderr; text: for people.")]


@verb
def gateway(
    folder: Folder,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    token_file: TokenFile = None,
    canary: KnownAnswers = None,
    log: LogOption = LogForm.json,
) -> Answer:
    """Let programs of this machine ask the private model by HTTP, until SIGTERM or Ctrl-C."""
    from mpcify.cluster.gateway.deployed import serve_gateway
    from mpcify.files import forbid_core_dumps

    forbid_core_dumps()
    answered = serve_gateway(folder, host, port, token_file, canary, log.value)
    return Answer({"answered": answered}, f"{answered} requests were answered")
