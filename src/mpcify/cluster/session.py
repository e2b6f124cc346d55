"""How a session ends, at either end of it: as it should, for a reason that all parties read, or by an error."""

from collections.abc import Iterator
from contextlib import contextmanager

from mpcify.errors import MpcifyError
from mpcify.graph.index import Role
from mpcify.network.links import Links

CLIENT: Role = "client"  # it opens the sessions and gives orders, and listens nowhere
OWNER: Role = "owner"  # if inputs are delegated, it takes the other half of each
LEFT = "the client has left"
DRAINING = "it is shutting down"
IDLE = "nobody asked anything"
REASONS = {"": "client-left", LEFT: "client-left", DRAINING: "draining", IDLE: "idle"}  # as logs call them
ASK_AGAIN = "ask again: the next request opens a new session; see that party's log if it happens again"


@contextmanager
def session_errors(links: Links) -> Iterator[None]:
    """Whatever fails in the block ends the session: its links are closed, with the reason if peers may read it.

    Raises MPC-706 for a link that broke or a peer that fell silent, and what has a number as it is.
    """
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        links.close(str(error))
        raise MpcifyError(706, f"session of {links.name}", str(error), ASK_AGAIN) from error
    except MpcifyError as error:
        links.close(f"MPC-{error.code} at {links.name}")
        raise
    except BaseException:
        links.close(f"MPC-903 at {links.name}")
        raise
