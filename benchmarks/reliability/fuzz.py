"""Coverage-guided fuzzing of everything that reads a peer's bytes, or a file that people edit.

    pip install atheris
    python -m benchmarks.reliability.fuzz [--seconds 60] [--out benchmarks/results/reliability/fuzz.json]

Each reader gets as long, in a process of its own. It fails if a reader raises anything but its own error.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.verbs import RESULTS
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance

Reader = Callable[[bytes], object]
LARGEST = 4096  # bytes of an input
COUNTED = re.compile(r"stat::number_of_executed_units: *(\d+)")
COVERED = re.compile(r"cov: (\d+)")


def wire() -> tuple[Reader, list[bytes]]:
    """A peer's frames: each begins with its length, in two bytes."""
    from mpcify.network.links import Limits
    from mpcify.network.wire import Reader as Frames
    from mpcify.network.wire import WireError, frames, goodbye

    def read(data: bytes) -> None:
        reader = Frames(Limits(message=1 << 16, waiting=1 << 16, key=32, keys=8))
        with suppress(WireError):
            while data:
                size = int.from_bytes(data[:2], "little")
                reader.read(data[2 : 2 + size])
                data = data[2 + size :]

    seeds = [*frames("share/client#1", b"12345"), goodbye("it is shutting down")]
    return read, [b"".join(len(frame).to_bytes(2, "little") + frame for frame in seeds)]


def orders() -> tuple[Reader, list[bytes]]:
    """The client's orders, and the costs that others answer."""
    from mpcify.cluster.orders import Order, costs_from_bytes, costs_to_bytes
    from mpcify.engines.cost import Cost
    from mpcify.errors import MpcifyError

    def read(data: bytes) -> None:
        with suppress(MpcifyError):
            Order.from_bytes(data, "client")
        with suppress(MpcifyError):
            costs_from_bytes(data, "owner", frozenset({""}))

    return read, [Order("answer", 64).to_bytes(), costs_to_bytes({"": Cost(1.5, 3, 4)})]


def handshake() -> tuple[Reader, list[bytes]]:
    """A peer's hello and session id, one behind the other."""
    from mpcify.cluster.handshake import DIGEST, NONCE, digest_of, shake_hands
    from mpcify.errors import MpcifyError
    from mpcify.network.links import Links

    class Peer(Links):
        def __init__(self, data: bytes) -> None:
            super().__init__("owner", ["client"], "", 1.0)
            self.data = {"hello": data[: NONCE + DIGEST], "session": data[NONCE + DIGEST :]}

        def post(self, peer: str, key: str, message: bytes) -> None: ...

        def close(self, reason: str = "") -> None: ...

        def receive(self, peer: str, key: str, timeout: float | None = None) -> bytes:
            return self.data[key]

    def read(data: bytes) -> None:
        with suppress(MpcifyError):
            shake_hands(Peer(data), {"version": "1"})

    return read, [bytes(NONCE) + digest_of("1") + bytes(DIGEST)]


def shares() -> tuple[Reader, list[bytes]]:
    """A peer's share, around whose contents nothing may differ."""
    from mpcify.engines.spu.link import Layout, chunk_of

    layout = Layout(b"\x08\x03\x10\x01\x1a\x02\x03\x05", (chunk_of(90, 0, 64), chunk_of(90, 64, 26)))
    share = layout.meta + b"".join(head + bytes(size) for head, size in layout.chunks)

    def read(data: bytes) -> None:
        with suppress(ValueError):
            taken = layout.unpack(data)
            assert taken.meta == layout.meta
            assert b"".join((taken.meta, *taken.share_chunks)) == data

    return read, [share]


def pipe() -> tuple[Reader, list[bytes]]:
    """The frames between a party and its engine's process."""
    import numpy as np

    from mpcify.network.frames import FrameError, read_frame, write_frame

    def read(data: bytes) -> None:
        with suppress(FrameError, EOFError):
            read_frame(BytesIO(data), 1 << 12, 1 << 12)

    seed = BytesIO()
    write_frame(seed, {"do": "run"}, {"x": np.ones(3, np.float32)})
    return read, [seed.getvalue()]


def configs() -> tuple[Reader, list[bytes]]:
    """The file cluster.toml."""
    from mpcify.cluster.config import config_of, config_text, read_config
    from mpcify.errors import MpcifyError

    path = Path(tempfile.mkdtemp(dir="/dev/shm")) / "cluster.toml"
    parties = {"owner": "owner.example:7000", "helper": "[::1]:7001"}
    values = {"format": 1, "role": "owner", "lengths": [32, 64], "batch": 1, "parties": parties}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(MpcifyError):
            read_config(path)

    return read, [config_text(config_of({**values, "engine": {"engine": "spu"}}, "seed")).encode()]


def keys() -> tuple[Reader, list[bytes]]:
    """A private key, certificates, and a request for one."""
    from mpcify.cluster.authority import requested
    from mpcify.cluster.certificates import new_issuer, new_key, private_pem, request_pem
    from mpcify.cluster.keys import as_pem, load_key, read_certificates
    from mpcify.errors import MpcifyError

    path = Path(tempfile.mkdtemp(dir="/dev/shm")) / "certificate.pem"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(MpcifyError):
            load_key(data, path)
        with suppress(MpcifyError):
            read_certificates(path)
        with suppress(MpcifyError):
            requested(path, "owner")

    return read, [private_pem(new_key()), as_pem([new_issuer().certificate]), request_pem(new_key(), "owner")]


READERS = {made.__name__: made for made in (wire, orders, handshake, shares, pipe, configs, keys)}


def fuzz(name: str, seconds: int) -> None:
    """Fuzzes one reader in this process, and ends it."""
    import atheris

    with atheris.instrument_imports(include=["mpcify"]):
        read, seeds = READERS[name]()
    with tempfile.TemporaryDirectory() as corpus:
        for place, seed in enumerate(seeds):
            (Path(corpus) / str(place)).write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LARGEST}",
            "-print_final_stats=1",
            f"-artifact_prefix={corpus}/",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], read)
        atheris.Fuzz()


def measured(name: str, seconds: int) -> dict[str, Any]:
    """How one reader did."""
    command = [sys.executable, "-m", "benchmarks.reliability.fuzz", "--reader", name, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    inputs, covered = COUNTED.search(done.stderr), COVERED.findall(done.stderr)
    if inputs is None:
        raise SystemExit(done.stderr)
    print(f"{name}: {inputs[1]} inputs, exit code {done.returncode}", file=sys.stderr)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
    return {"inputs": int(inputs[1]), "edges": int(covered[-1]), "failed": done.returncode != 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "fuzz.json")
    parser.add_argument("--reader", choices=READERS, help="fuzz this one alone, in this process")
    options = parser.parse_args()
    if options.reader:
        fuzz(options.reader, options.seconds)
    found = {name: measured(name, options.seconds) for name in READERS}
    values = {"format": 1, "seconds": options.seconds, "readers": found}
    write_whole(options.out, json.dumps({**values, **provenance()}, indent=1) + "\n")
    return int(any(each["failed"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
