"""The gateway over a deployed client's folder: its session, log, metrics and probes."""

import sys
from contextlib import ExitStack, closing
from pathlib import Path

from mpcify.cluster.canary import Canary
from mpcify.cluster.deployed import CertificateWatch, connection_of, health_of, model_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.gateway.application import application
from mpcify.cluster.gateway.halves import Delegate, halves_application
from mpcify.cluster.gateway.serving import listen, name_of, serve
from mpcify.cluster.gateway.token import NAME, token_in
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.logs import Form, Log, libraries
from mpcify.cluster.metrics import Metrics
from mpcify.cluster.session import CLIENT
from mpcify.cluster.witness import Witness
from mpcify.errors import MpcifyError
from mpcify.progress import say

CANARY_EVERY = 300.0  # seconds


def serve_gateway(
    folder: Path, host: str, port: int, token_file: Path | None = None, canary: Path | None = None, form: Form = "json"
) -> int:
    """Serves until SIGTERM or SIGINT; a request that runs then is answered first. How many were.

    If the cluster's inputs are delegated, thin clients ask, and bring halves of their requests; else whoever has texts.

    token_file: None for the folder's own. canary: known answers to ask for. form: of the log on stderr. Raises MPC-901
    for an address that is not the loopback's or is in use, and for known answers that a delegate cannot ask for;
    MPC-702 for the token, what `connect` raises for the folder and its parties, and what `Canary` raises, before one is
    reached.
    """
    deployment = read_deployment(folder, CLIENT)
    if deployment.engine.delegated and canary is not None:
        what = "a delegate knows no text, so it can ask for no answer"
        raise MpcifyError(901, "--canary", what, "leave it out, and let a thin client ask what it knows")
    log, metrics = Log(CLIENT, form), Metrics(CLIENT, deployment.lengths)
    with ExitStack() as held:
        listening = held.enter_context(listen(host, port))
        token = token_in(token_file or folder / NAME)
        held.enter_context(libraries(log))
        health = held.enter_context(health_of(deployment, metrics))
        witness, watch = Witness(log, metrics, health), CertificateWatch(deployment, log, metrics, health)
        watch()
        waiting = deployment.config.limits.queue

        def counts() -> bytes:
            metrics.waiting(app.state.turns.waiting)
            return metrics.text()

        # every length is opened now, so that nobody's first request waits for it
        if deployment.engine.delegated:
            connection = held.enter_context(closing(connection_of(deployment, witness)))
            for length in deployment.lengths:
                connection.setup(length)
            turns = Turns(waiting)
            taker = Delegate(connection, turns)
            app = halves_application(taker, connection.programs, token, turns, metrics=counts, log=log)
        else:
            private = held.enter_context(model_of(folder, witness=witness))
            asking = None if canary is None else Canary(private, canary, CANARY_EVERY, metrics, log)
            for length in deployment.lengths:
                private.open(length)
            app = application(private, token, waiting=waiting, metrics=counts, log=log)
            if asking is not None:
                asking.start()
                held.callback(asking.stop)

        def tick() -> None:
            witness.waits()
            metrics.waiting(app.state.turns.waiting)
            watch()

        def leave() -> None:
            app.state.turns.close()
            watch.draining = True
            watch.tell()

        log.event("ready", address=name_of(listening))
        if sys.stderr.isatty() and not deployment.engine.delegated:  # a log is read by others than a terminal
            say(f"in a browser: http://{name_of(listening)}/#token={token}")
        watch.started = True
        serve(app, listening, leave, tick)
        log.event("stopped")
        return int(app.state.turns.answered)
