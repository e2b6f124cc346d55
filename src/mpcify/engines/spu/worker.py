"""The child: answers the parent's frames, one reply a request, until the parent closes the pipe or is gone.

Started as `python -m mpcify.engines.spu.worker REQUESTS REPLIES` (two pipe ends), with OMP_THREAD_LIMIT=1 in its
environment. It never imports torch, which would load libgomp before SPU does.
"""

import ctypes
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from mpcify.engines.spu.config import OWNER, SpuConfig
from mpcify.graph.graph import Graph
from mpcify.network.frames import read_frame, write_frame

Reply = tuple[dict[str, Any], dict[str, np.ndarray]]
Request = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
PULSE = 1000  # milliseconds between two looks for the parent


class Worker:
    """One session in the child: the parties, and the programs that they can run.

    A request is {"do": a verb below, …}; the reply to one that fails is {"error", "code"}, and it ends the child.
    """

    def __init__(self) -> None:
        self.programs: list[tuple[Any, Graph]] = []  # executables, and their graphs
        self.weights: dict[str, tuple[int, ...]] = {}  # the shapes of those that are shared
        self.verbs: dict[str, Callable[[Request, Arrays], Reply]] = {
            "start": self.start,
            "compile": self.compile,
            "weight": self.weight,
            "run": self.run,
            "profile": self.profile,
            "code": self.code,
        }

    def start(self, request: Request, arrays: Arrays) -> Reply:
        """{"settings"} → {"cost", "environment"}: connects the parties."""
        from spu import libspu

        from mpcify.engines.spu.parties import Parties

        quiet = libspu.logging.LogOptions()
        quiet.system_log_path = os.devnull  # else a spu.log in the working directory
        quiet.log_level = libspu.logging.LogLevel.ERROR
        libspu.logging.setup_logging(quiet)
        self.parties = Parties(SpuConfig.from_json(request["settings"]))
        return {"cost": self.parties.cost.to_json(), "environment": environment()}, {}

    def compile(self, request: Request, arrays: Arrays) -> Reply:
        """{"graph"} → {"program": its number, "missing": the weights that are not shared yet}."""
        from mpcify.engines.spu.lowering import compile_graph

        graph = Graph.from_json(request["graph"])
        self.programs.append((compile_graph(graph, self.parties.number), graph))
        owned = {item.name: item.shape for item in graph.role("owner")}
        if any(self.weights.get(name, shape) != shape for name, shape in owned.items()):
            raise ValueError("a weight of this name is shared already, with another shape")
        return {"program": len(self.programs) - 1, "missing": [name for name in owned if name not in self.weights]}, {}

    def weight(self, request: Request, arrays: Arrays) -> Reply:
        """{} and weights → {"cost"}: the owner shares them; they stay."""
        with self.parties.measured() as costs:
            for name, array in arrays.items():
                self.parties.share(name, array, OWNER)
        self.weights |= {name: array.shape for name, array in arrays.items()}
        return {"cost": costs[0].to_json()}, {}

    def run(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} and its inputs → {"cost"} and its outputs."""
        executable, graph = self.programs[request["program"]]
        outputs, cost = self.parties.run(executable, arrays, public_inputs(graph))
        return {"cost": cost.to_json()}, outputs

    def profile(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} and its inputs → {"costs": by operation} and its outputs."""
        from mpcify.engines.spu.lowering import compile_operations

        graph = self.programs[request["program"]][1]
        outputs, costs = self.parties.profile(
            compile_operations(graph, self.parties.number), arrays, public_inputs(graph), graph.outputs
        )
        return {"costs": {name: cost.to_json() for name, cost in costs.items()}}, outputs

    def code(self, request: Request, arrays: Arrays) -> Reply:
        """{"program"} → {"code"}: what every party holds, as text."""
        return {"code": self.programs[request["program"]][0].code.decode()}, {}

    def answer(self, request: Request, arrays: Arrays) -> Reply:
        """The reply to one request."""
        try:
            return self.verbs[request["do"]](request, arrays)
        except ImportError as error:
            return {"error": reason(error), "code": 504}, {}
        except Exception as error:
            return {"error": reason(error), "code": 503}, {}


def public_inputs(graph: Graph) -> frozenset[str]:
    """The names of a graph's public inputs."""
    return frozenset(item.name for item in graph.role("public"))


def reason(error: Exception) -> str:
    """An exception in one line; of SPU's message without its source location and C++ stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and line != "what:"), "")
    message = re.sub(r"^\[[^\]]*\] *", "", text)
    return f"{type(error).__name__}: {message}"[:300]


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
    requests, replies = int(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=exit_with_parent, args=(requests, os.getppid()), daemon=True).start()
    worker = Worker()
    with os.fdopen(requests, "rb") as source, os.fdopen(replies, "wb", buffering=0) as sink:
        with suppress(EOFError, BrokenPipeError):
            reply: dict[str, Any] = {}
            while "error" not in reply:
                reply, arrays = worker.answer(*read_frame(source))
                write_frame(sink, reply, arrays)
        os._exit(0)  # at once: threads of other parties may wait for ever


if __name__ == "__main__":
    main()
