"""mpcify gateway FOLDER: the private model by HTTP, for the programs of the client's own machine."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.verb import Answer, verb
from mpcify.progress import say

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The deployed folder of the client.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0: any port that is free.")]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens: an address of the loopback.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the token; made if it is not there. Default: FOLDER/gateway-token."),
]


@verb
def gateway(folder: Folder, port: Port = 8000, token_file: TokenFile = None, host: Host = "127.0.0.1") -> Answer:
    """Let programs of this machine ask the private model by HTTP, until SIGTERM or Ctrl-C."""
    import mpcify
    from mpcify.cluster.gateway.application import application
    from mpcify.cluster.gateway.serving import address_of, listen, serve
    from mpcify.cluster.gateway.token import NAME, token_in

    with listen(host, port) as listening, mpcify.connect(folder) as private:
        path = token_file or folder / NAME
        app = application(private, token := token_in(path))
        log_requests()
        address = address_of(listening)
        say(f"gateway: {address}, its token is in {path}")
        if sys.stderr.isatty():  # a log is read by others than a terminal
            say(f"gateway: in a browser {address}#token={token}")
        serve(app, listening)
    answered = app.state.turns.answered
    return Answer({"answered": answered}, f"{answered} requests were answered")


def log_requests() -> None:
    """A line a request on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("mpcify.gateway")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
