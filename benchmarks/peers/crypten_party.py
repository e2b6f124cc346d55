"""One of CrypTen's two parties: a graph of ours, operation by operation, by CrypTen's own functions.

    build/peers/bin/python benchmarks/peers/crypten_party.py RANK FOLDER

`CryptenSession` starts it, in CrypTen's environment: nothing of ours can be imported. FOLDER holds graph.json,
owner.npz and, with each request, client.npz. Rank 0 is the client, and the trusted first party, which makes the tuples
of multiplications; rank 1 is the owner. Every word on standard input is answered by a line of JSON:

    ahead    the tuples of the next request are made
    request  inputs are shared, the graph runs, and its output is opened; the client writes it to output.npy

The first request counts what is sent and which tuples it needs; before it nothing is made.
"""

import json
import math
import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLIENT, OWNER = range(2)
RANKS = {"client": CLIENT, "public": CLIENT, "owner": OWNER}
GELU_TANH_CUBE = 0.044715


def crypten_here(rank: int, folder: Path) -> Any:
    """CrypTen, joined to the other party over loopback. One thread."""
    # CrypTen looks for a module of older torch, or for another: both serve its conversion of ONNX alone.
    sys.modules["torch.onnx.symbolic_registry"] = types.ModuleType("torch.onnx.symbolic_registry")
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "RENDEZVOUS": f"file://{folder.resolve()}/rendezvous",
        "DISTRIBUTED_BACKEND": "gloo",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    import crypten
    import torch

    torch.set_num_threads(1)
    crypten.init()
    return crypten


def layernorm(x: Any, g: Any, b: Any, eps: float) -> Any:
    """(x − mean) · inv_sqrt(variance + eps) · g + b over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred * (variance + eps).inv_sqrt() * g + b


def gelu(x: Any) -> Any:
    """x/2 · (1 + erf(x/√2)), erf by CrypTen's Taylor series."""
    return x * 0.5 * ((x * (1 / math.sqrt(2))).erf() + 1)


def gelu_tanh(x: Any) -> Any:
    """x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))."""
    inner = (x + x.square() * x * GELU_TANH_CUBE) * math.sqrt(2 / math.pi)
    return x * 0.5 * (inner.tanh() + 1)


def positive_reciprocal(crypten: Any, x: Any) -> Any:
    """1/x, of a softmax's sum, as CrypTen's own softmax takes it: the sign is known."""
    with crypten.cfg.temp_override({"functions.reciprocal_all_pos": True}):
        return x.reciprocal()


def part(x: Any, axis: int, start: int, stop: int) -> Any:
    """x from `start` to `stop` along one axis."""
    return x[(slice(None),) * (axis % x.dim()) + (slice(start, stop),)]


def functions(crypten: Any) -> Mapping[str, Callable[..., Any]]:
    """What computes each kind of operation."""
    return {
        "linear": lambda x, w, b: x.matmul(w) + b,
        "matmul": lambda a, b, transpose: a.matmul(b.transpose(-1, -2) if transpose else b),
        "mul": lambda a, b: a * b,
        "square": lambda x: x.square(),
        "scale": lambda x, by: x * by,
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "shift": lambda x, by: x + by,
        "sum": lambda x, axis: x.sum(axis, keepdim=True),
        "max": lambda x, axis: x.max(axis, keepdim=True)[0],
        "exp": lambda x, t: x.exp(),
        "reciprocal": lambda x: positive_reciprocal(crypten, x),
        "gelu": gelu,
        "gelu-tanh": gelu_tanh,
        "layernorm": layernorm,
        "reshape": lambda x, shape: x.reshape(*shape),
        "transpose": lambda x, axes: x.permute(*axes),
        "slice": part,
        "concat": lambda *x, axis: crypten.cat([*x], dim=axis),
        "broadcast": lambda x, shape: x.expand(*shape),
    }


def evaluated(graph: Mapping[str, Any], values: dict[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The one output of a graph. values: its inputs by name; what operations give is added."""
    for operation in graph["operations"]:
        given = [values[name] for name in operation["inputs"]]
        values[operation["name"]] = functions[operation["kind"]](*given, **operation["attributes"])
    (name,) = graph["outputs"]
    return values[name]


class Party:
    """A party with its weights in place."""

    def __init__(self, rank: int, folder: Path) -> None:
        self.rank, self.folder = rank, folder
        self.crypten = crypten_here(rank, folder)
        self.provider = self.crypten.mpc.get_default_provider()
        self.functions = functions(self.crypten)
        self.graph = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        self.mine = dict(np.load(folder / "owner.npz")) if rank == OWNER else {}
        self.weights = {item["name"]: self.shared(item) for item in self.graph["inputs"] if item["role"] == "owner"}
        self.counted: dict[str, int] | None = None

    def shared(self, item: Mapping[str, Any]) -> Any:
        """An input as both parties share it; who does not hold it gives zeros of its shape."""
        import torch

        array = self.mine.get(item["name"])
        value = torch.zeros(item["shape"]) if array is None else torch.from_numpy(array)
        return self.crypten.cryptensor(value, src=RANKS[item["role"]])

    def ahead(self) -> dict[str, Any]:
        """Makes the tuples of one request."""
        start = time.perf_counter()
        self.provider.fill_cache()
        return {"seconds": time.perf_counter() - start}

    def request(self) -> dict[str, Any]:
        """One request, from sharing its inputs to the output in the clear."""
        first, communicator = self.counted is None, self.crypten.comm.get()
        if self.rank == CLIENT:
            self.mine = dict(np.load(self.folder / "client.npz"))
        self.provider.trace(first)
        self.crypten.cfg.communicator.verbose = first
        communicator.reset_communication_stats()
        communicator.barrier()
        start = time.perf_counter()
        output = self.run()
        seconds = time.perf_counter() - start
        if first:
            counts = communicator.get_communication_stats()
            self.counted = {"bytes": int(counts["bytes"]), "rounds": int(counts["rounds"])}
        if self.rank == CLIENT:
            np.save(self.folder / "output.npy", output.numpy())
        left = sum(map(len, self.provider.tuple_cache.values()))
        return {"seconds": seconds, "tuples_left": left, **(self.counted or {})}

    def run(self) -> Any:
        """The graph's output in the clear."""
        items = self.graph["inputs"]
        values = self.weights | {item["name"]: self.shared(item) for item in items if item["role"] != "owner"}
        return evaluated(self.graph, values, self.functions).get_plain_text(dst=CLIENT)


def main() -> None:
    party = Party(int(sys.argv[1]), Path(sys.argv[2]))
    answers = {"ahead": party.ahead, "request": party.request}
    print(json.dumps({"versions": versions()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)


def versions() -> dict[str, str]:
    """Of what runs."""
    import crypten
    import torch

    return {"crypten": crypten.__version__, "torch": torch.__version__}


if __name__ == "__main__":
    main()
