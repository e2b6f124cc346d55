"""The owner's desk on the loopback, in a thread beside the service that takes halves from it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mpcify.cluster.deployment import Deployment
from mpcify.cluster.desk import Desk
from mpcify.cluster.gateway.halves import Owner, halves_application
from mpcify.cluster.gateway.serving import listen, name_of, server_of
from mpcify.cluster.gateway.token import DESK, token_in
from mpcify.cluster.gateway.turns import Turns
from mpcify.cluster.logs import Log
from mpcify.cluster.programs import Programs
from mpcify.errors import MpcifyError


@contextmanager
def desk_open(deployment: Deployment, desk: Desk, programs: Programs, log: Log) -> Iterator[None]:
    """While open, thin clients can leave their halves at the owner's desk; a half that was taken is answered first.

    Raises MPC-701 if nothing can listen there, MPC-702 for the token.
    """
    address = deployment.config.desk.address
    assert address is not None
    token, turns = token_in(deployment.folder / DESK), Turns(deployment.queue)
    try:
        listening = listen(address.host, address.port)
    except MpcifyError as error:
        remedy = "name a free port of the loopback under [desk] in cluster.toml"
        raise MpcifyError(701, "desk", f"nothing can listen at {address} ({error.what})", remedy) from None
    app = halves_application(Owner(desk, deployment.timeouts.message), programs, token, turns, log=log)
    server = server_of(app, turns.close)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="desk", daemon=True)
    with listening:
        thread.start()
        log.event("desk-open", address=name_of(listening))
        try:
            yield
        finally:
            desk.close()
            turns.close()
            server.should_exit = True
            thread.join()
