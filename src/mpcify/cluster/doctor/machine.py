"""What a party's machine gives it: processors, memory, and the addresses at which it listens."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import FILE
from mpcify.cluster.deployment import Deployment
from mpcify.cluster.doctor.findings import Findings
from mpcify.cluster.doctor.folder import Parts, Programs
from mpcify.engines.config import EngineConfig
from mpcify.errors import MpcifyError
from mpcify.graph.index import Role
from mpcify.processors import CONTROL, THREADS, processors

GIB = 1 << 30
FLOAT = 4  # bytes
PATIENCE = 2.0  # seconds for an answer of this machine's own


def check_machine(parts: Parts, ours: Callable[[Address], bool], findings: Findings) -> None:
    """Checks what a party's folder needs of this machine. ours: whether the party itself answers at an address."""
    check_processors(findings)
    deployment = parts.deployment
    if deployment is None:
        return
    check_speed(deployment.engine, findings)
    if programs := parts.programs:
        ready = sum(program.kept_ready(deployment.role) for program in programs.values())
        findings.check("memory", lambda: check_memory(least_memory(deployment, programs), ready))
    if deployment.listen:
        address = Address.parse(deployment.listen)
        findings.check("listen", lambda: check_listen(address, ours))
    if deployment.health:
        health, role = deployment.health, deployment.role
        findings.check("health", lambda: check_health(health, role))


def check_processors(findings: Findings) -> None:
    """Warns of too few, and of more threads than there are."""
    count = findings.check("processors", processors, lambda count: f"{count:g}")
    asked_for = os.environ.get(THREADS, "")
    if count and count < 2:
        findings.warn("a party computes and sends at the same time", "give it two processors or more")
    elif count and asked_for.isdecimal() and int(asked_for) > count:
        findings.warn(f"{THREADS} asks for {asked_for} threads", f"unset it, or set it to {int(count)}")


def check_speed(engine: EngineConfig, findings: Findings) -> None:
    """Tells what the engine has to compute with, if it has a choice, and warns if that is slow."""
    speed = findings.check("kernels", engine.speed, lambda speed: None if speed is None else speed.found)
    if speed and speed.slow:
        findings.warn(*speed.slow)


def least_memory(deployment: Deployment, programs: Programs) -> int:
    """Bytes that a party needs in any case: its shares of the weights, the owner's weights, two messages."""
    graph, rules = next(iter(programs.values())).graph, deployment.engine.rules()
    weights = {item.name: np.broadcast_to(np.float32(0), item.shape) for item in graph.held_by("owner")}
    shares = 0.0 if rules is None else rules.memory(weights) * GIB / len(deployment.engine.parties)
    floats = FLOAT * sum(array.size for array in weights.values()) if deployment.role == "owner" else 0
    return round(shares) + floats + 2 * max(program.largest_message for program in programs.values())


def check_memory(model: int, ready: int) -> str:
    """What is needed and what there is. ready: of what waits for requests. Raises MPC-701 if there is less."""
    whole, free = memory()
    needed = f"{(model + ready) / GIB:.1f} GiB"
    if ready:
        needed += f", {ready / GIB:.1f} GiB of it for the requests that are prepared ahead,"
    if model + ready > whole:
        what = f"the model needs {needed} at least, and there are {whole / GIB:.1f} GiB"
        remedy = "give the machine or the container more, or serve fewer or shorter lengths"
        if ready:
            remedy += f", or lower ahead in {FILE}, at all parties"
        raise MpcifyError(701, "memory", what, remedy)
    return f"{needed} needed at least; {free / GIB:.1f} GiB of {whole / GIB:.1f} GiB are free"


def memory() -> tuple[int, int]:
    """Bytes that this process may use: all, and those that are free. Raises OSError."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    known = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    whole, free = known["MemTotal"], known["MemAvailable"]
    with suppress(OSError, ValueError):
        most = int((CONTROL / "memory.max").read_text())
        used = int((CONTROL / "memory.current").read_text())
        whole, free = min(whole, most), min(free, most - used)
    return whole, free


def check_listen(address: Address, ours: Callable[[Address], bool]) -> str:
    """Whether a party can listen there, or does. Raises MPC-701."""
    if is_free(address, "[listen]"):
        return f"{address} is free"
    if ours(here(address)):
        return f"this party's service is at {address}"
    what = f"another program listens at {address}"
    raise MpcifyError(701, "listen", what, "end it, or change the port: under [parties] at all parties, or here")


def is_free(address: Address, section: str) -> bool:
    """Whether one may listen there; False if somebody does. Raises MPC-701 if nobody can."""
    try:
        for family, kind, _, _, place in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(place)
        return True
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        what = f"nothing can listen at {address} ({error.strerror})"
        remedy = f'say under {section} where, as in address = "0.0.0.0:{address.port}"'
        if error.errno == errno.EACCES:
            remedy = "choose a port above 1023, at all parties"
        raise MpcifyError(701, section, what, remedy) from None


def here(address: Address) -> Address:
    """Where this machine reaches what listens at an address."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return Address(loopback.get(address.host, address.host), address.port)


def check_health(address: Address, role: Role) -> str:
    """Whether a party can be asked for its health there, or what it answers. Raises MPC-701."""
    if is_free(address, "[health]"):
        return f"{address} is free"
    try:
        place = here(address)
        words = asked(place, "/ready")
        if f'mpcify_party_info{{role="{role}"}}'.encode() in asked(place, "/metrics"):
            return f"this party's service is at {address}, and says: {words.decode().strip()}"
    except (OSError, HTTPException, UnicodeDecodeError):
        pass
    what = f"another program listens at {address}"
    raise MpcifyError(701, "[health]", what, "end it, or change the address under [health]")


def asked(address: Address, path: str) -> bytes:
    """The body of an answer over HTTP."""
    connection = HTTPConnection(address.host, address.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(1 << 20)
    finally:
        connection.close()
