"""The child: answers the parent's frames, one reply a request, until the parent closes the pipe or is gone.

Started as `python -m mpcify.engines.spu.worker REQUESTS REPLIES [OPENER]` (two pipe ends, and a socket if the parent
relays links), with OMP_THREAD_LIMIT=1 in its environment. It never imports torch, which would load libgomp before SPU.
"""

import ctypes
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mpcify.engines.cost import Cost, combined
from mpcify.engines.spu.config import SpuConfig
from mpcify.engines.spu.failure import failure
from mpcify.files import forbid_core_dumps
from mpcify.graph.graph import Graph
from mpcify.network.frames import read_frame, write_frame
from mpcify.network.links import Links
from mpcify.network.memory import connect
from mpcify.network.pipe import PipeLinks

if TYPE_CHECKING:
    from mpcify.engines.spu.party import SpuParty

Reply = tuple[dict[str, Any], dict[str, np.ndarray]]
Request = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
T = TypeVar("T")
PULSE = 1000  # milliseconds between two looks for the parent


class Worker:
    """One session in the child: a seat for each of its roles, in a thread each; and their programs.

    opener: of a real party's links, which the parent relays: it has that one role. None: all roles, over links in
    memory. A request is {"do": a verb below, …}; the reply to one that fails is {"error", "code", …}, and it ends the
    child.
    """

    def __init__(self, opener: socket.socket | None = None) -> None:
        self.opener = opener
        self.links: Mapping[str, Links] = {}
        self.programs: list[dict[str, SpuParty]] = []  # each program's parties, by role
        self.verbs: dict[str, Callable[[Request, Arrays], Reply]] = {
            "start": self.start,
            "compile": self.compile,
            "missing": self.missing,
            "weight": self.weight,
            "run": self.run,
            "profile": self.profile,
            "code": self.code,
        }

    def start(self, request: Request, arrays: Arrays) -> Reply:
        """{"settings"}, and "links" of a real party → {"cost", "environment"}: connects the parties."""
        from mpcify.engines.spu.party import Seat

        self.config = SpuConfig.from_json(request["settings"])
        if self.opener is None:
            self.links = connect(self.config.parties)
        else:
            links = PipeLinks(**request["links"], opener=self.opener)
            self.links = {links.name: links}
        self.threads = ThreadPoolExecutor(len(self.links))
        self.seats = self.together(lambda role: Seat(self.config, self.links[role]))
        cost = combined({role: seat.connecting for role, seat in self.seats.items()})
        return {"cost": cost.to_json(), "environment": environment()}, {}

    def compile(self, request: Request, arrays: Arrays) -> Reply:
        """{"graph", "facts"} → {"program": its index}."""
        from mpcify.engines.spu.party import Compiled, SpuParty

        compiled = Compiled(Graph.from_json(request["graph"]), self.config, request["facts"])
        parties = self.together(lambda role: SpuParty(compiled, self.seats[role]))
        self.programs.append(parties)
        return {"program": len(self.programs) - 1}, {}

    def missing(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} → {"missing": the weights that are not shared yet}."""
        return {"missing": [item.name for item in self.any_party(request).missing]}, {}

    def weight(self, request: Request, arrays: Arrays) -> Reply:
        """{"program", "name": a missing weight}, and the weight from the owner → {"cost"}: it is shared, and stays."""
        parties = self.programs[request["program"]]
        (item,) = (item for item in self.any_party(request).missing if item.name == request["name"])
        costs = self.together(lambda role: parties[role].place(item, arrays if role == "owner" else None))
        return {"cost": combined(costs).to_json()}, {}

    def run(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} and its inputs → {"cost"} and its outputs."""
        parties = self.programs[request["program"]]
        answers = self.together(lambda role: parties[role].run(parties[role].own(arrays)))
        cost = combined({role: cost for role, (_, cost) in answers.items()})
        return {"cost": cost.to_json()}, answers["client"][0] or {} if "client" in answers else {}

    def profile(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} and its inputs → {"costs": by operation} and its outputs. All parties wait after each step."""
        parties = self.programs[request["program"]]
        outputs: dict[str, dict[str, np.ndarray]] = {role: {} for role in parties}
        steps = {role: party.steps(party.own(arrays), outputs[role]) for role, party in parties.items()}
        costs: dict[str, Cost] = {}
        while None not in (done := self.together(lambda role: next(steps[role], None))).values():
            named = {role: step for role, step in done.items() if step is not None}
            ((name, _), *_) = named.values()
            costs[name] = combined({role: cost for role, (_, cost) in named.items()})
        return {"costs": {name: cost.to_json() for name, cost in costs.items()}}, outputs.get("client", {})

    def code(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} → {"code"}: what every party holds, as text."""
        return {"code": self.any_party(request).compiled.executable.code.decode()}, {}

    def any_party(self, request: Request) -> "SpuParty":
        """A party of the request's program: for what is the same at all."""
        return next(iter(self.programs[request["program"]].values()))

    def together(self, action: Callable[[str], T]) -> dict[str, T]:
        """What `action(role)` gives, in a thread a role at once.

        If one fails the links close, so that no other waits for it, and what comes out is the cause.
        """
        futures = {role: self.threads.submit(action, role) for role in self.links}
        done, running = wait(futures.values(), return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            if len(futures) > 1:  # the parent of a single one closes its links
                for end in self.links.values():
                    end.close()
            if not causes(done):
                wait(running)  # a closed link is no cause: whoever closed it is about to say why
            raise next(iter(causes(futures.values()) or errors(done)))
        return {role: future.result() for role, future in futures.items()}

    def reply(self, request: Request, arrays: Arrays) -> Reply:
        """The reply to one request. What its parties sent is then with the links, even if they failed afterwards."""
        try:
            reply = self.verbs[request["do"]](request, arrays)
            self.flush()
            return reply
        except Exception as error:
            with suppress(ConnectionError, ValueError):
                self.flush()
            found = failure(error)
            return {"error": found.what, "code": found.code, "where": found.where, "remedy": found.remedy}, {}

    def flush(self) -> None:
        """Waits until what was sent is with the parent's links, if it relays them."""
        for links in self.links.values():
            if isinstance(links, PipeLinks):
                links.flush()


def errors(futures: Iterable[Future]) -> list[BaseException]:
    """What those that have failed raised."""
    return [error for future in futures if future.done() and (error := future.exception()) is not None]


def causes(futures: Iterable[Future]) -> list[BaseException]:
    """Errors that do not follow from another's."""
    return [error for error in errors(futures) if not isinstance(error.__cause__, ConnectionError)]


def environment() -> dict[str, Any]:
    """What decides SPU's speed here: the thread limit that libgomp itself reports, and whether torch is loaded."""
    library = ctypes.CDLL("libgomp.so.1")
    return {
        "omp_thread_limit": int(library.omp_get_thread_limit()),
        "torch": "torch" in sys.modules,
        "pid": os.getpid(),
    }


def exit_with_parent(requests: int, parent: int) -> None:
    """Ends this process when the other end of the pipe is closed, in the middle of a product too.

    What the parent forked may hold that end open: so this looks for the parent itself as well.
    """
    poller = select.poll()
    poller.register(requests, 0)  # hang-up is always reported
    while not poller.poll(PULSE) and os.getppid() == parent:
        pass
    os._exit(0)


def main() -> None:
    """Serves until the pipe closes."""
    forbid_core_dumps()
    requests, replies, *openers = map(int, sys.argv[1:])
    threading.Thread(target=exit_with_parent, args=(requests, os.getppid()), daemon=True).start()
    worker = Worker(socket.socket(fileno=openers[0]) if openers else None)
    with os.fdopen(requests, "rb") as source, os.fdopen(replies, "wb", buffering=0) as sink:
        with suppress(EOFError, BrokenPipeError):
            reply: dict[str, Any] = {}
            while "error" not in reply:
                reply, arrays = worker.reply(*read_frame(source))
                write_frame(sink, reply, arrays)
        os._exit(0)  # at once: threads of other parties may wait for ever


if __name__ == "__main__":
    main()
