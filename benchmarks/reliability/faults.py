"""What the client sees of each fault, how soon, and whether the cluster works again without anybody else's help.

    python -m benchmarks.reliability.faults [--only PART]

Owner, helper and client are processes of their own over mutual TLS; everything between them goes through proxies, which
stop it in the middle of a phase, so that a fault happens there. Then: what became of the request that ran, and of the
next one once the fault was mended (a killed party started again, a frozen one woken, a line put back).
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reliability.cluster import Cluster
from benchmarks.reliability.deployment import ROLES, SMALL, Expected, deploy
from benchmarks.reliability.load import TOLERANCE
from benchmarks.reliability.processes import LIMIT
from benchmarks.verbs import RESULTS
from mpcify.cluster.config import EXPORTED
from mpcify.files import write_whole
from mpcify.measure.provenance import provenance

PARTIES = ("client", *ROLES)
HANDSHAKE, WEIGHTS, INFERENCE, IDLE = "handshake", "weights", "inference", "idle"
PATIENCE = 10.0  # seconds until a fault is mended that the client has not noticed yet
QUIET = 3.0  # seconds in which nobody asks after a fault that happens while nobody does
TRIES = 3
LATE = 30.0  # seconds
SLOW = 0.025  # seconds, each way
KILL, TERM, STOP = "kill -9", "SIGTERM", "SIGSTOP"
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
CUT, SILENT, DOWN = "cut", "silent", "down"


@dataclass(frozen=True)
class Fault:
    """what: is done to a party's process or engine, or to a line, in a phase."""

    what: str
    where: str
    phase: str

    def __str__(self) -> str:
        return f"{self.what}, {self.where}, {self.phase}"


def all_faults() -> Iterator[Fault]:
    """Every fault that happens in the middle of a phase."""
    for where in PARTIES:
        for phase in (HANDSHAKE, WEIGHTS, INFERENCE, IDLE):
            yield Fault(KILL, where, phase)
        for phase in (WEIGHTS, INFERENCE, IDLE):
            yield Fault(KILL, f"{where}'s engine", phase)
    for where in PARTIES:
        for part in ("", "'s engine"):
            for phase in (INFERENCE, IDLE):
                yield Fault(STOP, where + part, phase)
    for where in ROLES:
        for phase in (INFERENCE, IDLE):
            yield Fault(TERM, where, phase)
    for line in ("client-owner", "client-helper", "helper-owner"):
        for phase in (HANDSHAKE, WEIGHTS, INFERENCE, IDLE):
            yield Fault(CUT, line, phase)
        for phase in (INFERENCE, IDLE):
            yield Fault(SILENT, line, phase)
        yield Fault(DOWN, line, IDLE)


class Trial:
    """One cluster, in which fault follows fault. expected: what its texts are answered."""

    def __init__(self, cluster: Cluster, expected: Expected) -> None:
        self.cluster, self.expected = cluster, expected
        self.text = next(iter(expected.answers))

    def told(self, line: dict[str, Any]) -> str:
        """What an answer is: right, wrong, or the number of an error."""
        if "logits" not in line:
            return "connected" if line["id"] == "connected" and "code" not in line else f"MPC-{line['code']}"
        return "right" if self.expected.error(self.text, line["logits"]) <= TOLERANCE else "wrong"

    def run(self, fault: Fault) -> dict[str, Any]:
        """Lets a fault happen; what came of it."""
        role, _, part = fault.where.partition("'s ")
        hurt = role if fault.what in (KILL, TERM) and not part else None
        before = {name: party.pid for name, party in self.cluster.parties.items() if name != hurt}
        outcome = self.begin(fault.phase)
        start = time.monotonic()
        self.bring_about(fault)
        self.cluster.lines.release()
        if fault.phase == IDLE and not (role == "client" and not part):
            time.sleep(QUIET)
            outcome, start = self.asking(), time.monotonic()
        saw, seconds, after = self.wait(outcome, start, lambda: self.mend(fault))
        tries, back = self.recover()
        ran_on = all(self.cluster.parties[name].pid == pid for name, pid in before.items())
        ran_on &= all(self.cluster.parties[name].process.poll() is None for name in before)
        row = {"fault": fault.what, "where": fault.where, "phase": fault.phase, **saw, "seconds": seconds}
        return {**row, "mended_before": after, "tries": tries, "seconds_until_right": back, "others_ran_on": ran_on}

    def begin(self, phase: str) -> Callable[[float], dict[str, Any]]:
        """Brings the cluster into a phase and holds it there; what waits for the outcome."""
        cluster = self.cluster
        if phase in (HANDSHAKE, WEIGHTS):
            cluster.leave()
        if phase == HANDSHAKE:
            cluster.lines.hold(cluster.bytes_of[phase] // 2)
            client = cluster.connect()
            assert cluster.lines.held.wait(LIMIT)
            return client.connected
        client = cluster.connect()
        client.connected()
        if phase in (INFERENCE, IDLE):
            assert self.told(client.ask(self.text)) == "right"
        if phase == IDLE:
            return lambda timeout: {}
        cluster.lines.hold(cluster.bytes_of[phase] // 2)
        outcome = self.asking()
        assert cluster.lines.held.wait(LIMIT)
        return outcome

    def asking(self) -> Callable[[float], dict[str, Any]]:
        """Asks; what waits for the answer."""
        client = self.cluster.connect()
        number = client.send(self.text)
        return lambda timeout: client.wait("id", number, timeout=timeout)

    def bring_about(self, fault: Fault) -> None:
        """Does what is to be done."""
        role, _, part = fault.where.partition("'s ")
        number = {KILL: signal.SIGKILL, TERM: signal.SIGTERM, STOP: signal.SIGSTOP}.get(fault.what)
        if number is not None:
            self.cluster.signal(role, part or "process", number)
            return
        proxy = self.cluster.proxies[fault.where]
        if fault.what == SILENT:
            proxy.silent.set()
            return
        proxy.open = fault.what != DOWN
        proxy.cut()

    def mend(self, fault: Fault) -> None:
        """Undoes it: starts what was ended, wakes what was frozen, puts the line back."""
        role, _, part = fault.where.partition("'s ")
        if fault.what in (KILL, TERM) and not part:
            self.cluster.process(role).process.wait(LIMIT)
            if role != "client":
                self.cluster.start(role)
        elif fault.what == STOP:
            self.cluster.signal(role, part or "process", signal.SIGCONT)
        elif fault.what in (SILENT, DOWN):
            proxy = self.cluster.proxies[fault.where]
            proxy.cut()
            proxy.silent.clear()
            proxy.open = True

    def wait(
        self, outcome: Callable[[float], dict[str, Any]], start: float, mend: Callable[[], None]
    ) -> tuple[dict[str, Any], float | None, bool]:
        """What the client saw, after how many seconds, and whether the fault was mended before. Mends it."""
        mended = False
        for patience in (PATIENCE, LIMIT):
            try:
                line = outcome(patience)
            except TimeoutError:
                if mended:
                    raise
                mend()
                mended = True
                continue
            except EOFError:
                line = {}
            seconds = round(time.monotonic() - start, 1) if line else None
            if not mended:
                mend()
            return {"saw": self.told(line) if line else "gone", "what": line.get("what")}, seconds, mended
        raise AssertionError

    def recover(self) -> tuple[int, float | None]:
        """Asks until the answer is right: how often that took, and how long."""
        start = time.monotonic()
        for tries in range(1, TRIES + 1):
            client = self.cluster.connect()
            try:
                client.connected()
                if self.told(client.ask(self.text)) == "right":
                    return tries, round(time.monotonic() - start, 1)
            except EOFError:
                client.process.wait(LIMIT)
        return TRIES, None

    def late_start(self) -> dict[str, Any]:
        """The helper starts half a minute after the client."""
        self.cluster.leave()
        self.cluster.parties["helper"].stop()
        start, client = time.monotonic(), self.cluster.connect()
        time.sleep(LATE)
        self.cluster.start("helper")
        line = client.connected()
        return self.row(f"started {LATE:g} s late", "helper", line, time.monotonic() - start)

    def delayed(self) -> dict[str, Any]:
        """Every line takes its time."""
        self.cluster.leave()
        self.cluster.lines.delay = SLOW
        try:
            client = self.cluster.connect()
            client.connected()
            start = time.monotonic()
            line = client.ask(self.text)
            return self.row(f"{2 * SLOW * 1000:g} ms of round trip", "every line", line, time.monotonic() - start)
        finally:
            self.cluster.lines.delay = 0.0
            self.cluster.leave()

    def other_export(self, role: str, exported: Path, place: Path) -> dict[str, Any]:
        """A party starts from its folder as it was before, with another model."""
        self.cluster.leave()
        self.cluster.parties[role].stop()
        shutil.copytree(self.cluster.folder / role, place, dirs_exist_ok=True)
        shutil.rmtree(place / EXPORTED)
        shutil.copytree(exported / role, place / EXPORTED)
        self.cluster.start(role, folders={role: place})
        start = time.monotonic()
        line = self.cluster.connect().connected()
        seconds = time.monotonic() - start
        self.cluster.parties[role].stop()
        self.cluster.start(role)
        return self.row("started from another export", role, line, seconds)

    def without_disk(self, role: str, what: str, **options: Any) -> dict[str, Any]:
        """A party starts where it cannot write, answers, and ends as it should; then it starts as usual."""
        self.cluster.leave()
        self.cluster.parties[role].stop()
        self.cluster.start(role, **options)
        self.cluster.listens(role)
        client, start = self.cluster.connect(), time.monotonic()
        client.connected()
        line = client.ask(self.text)
        seconds = time.monotonic() - start
        code = self.cluster.parties[role].stop()
        self.cluster.start(role)
        return {**self.row(what, role, line, seconds), "exit_code": code}

    def full_log(self, role: str) -> dict[str, Any]:
        """The disk that a party logs to is full."""
        with open("/dev/full", "w") as full:
            return self.without_disk(role, "log on a full disk", stderr=full)

    def read_only(self, role: str) -> dict[str, Any]:
        """A party can write neither to its folder, nor where it stands, nor where temporary files go."""
        folder = str(self.cluster.folder / role)
        prefix = ("unshare", "--mount", "sh", "-c", READ_ONLY, folder)
        return self.without_disk(
            role, "read-only folder", prefix=prefix, cwd="/proc", env={**os.environ, "TMPDIR": "/proc"}
        )

    def row(self, what: str, where: str, line: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The row of a fault that belongs to no phase."""
        saw = {"saw": self.told(line), "what": line.get("what")}
        tries, back = self.recover()
        found = {
            "fault": what,
            "where": where,
            "phase": "–",
            **saw,
            "seconds": round(seconds, 1),
            "mended_before": False,
        }
        return {**found, "tries": tries, "seconds_until_right": back, "others_ran_on": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults in whose name this stands")
    parser.add_argument("--folder", type=Path, help="keep the deployment there, and take it from there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "reliability" / "faults.json")
    given = parser.parse_args()
    origin = provenance(given.seed)  # now: what runs may change meanwhile
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        rows = [*measured(folder, given.only, given.seed)]
    values = {"format": 1, "model": SMALL, "limit_seconds": LIMIT, "rows": rows}
    values["load_average"] = round(os.getloadavg()[0], 1)
    write_whole(given.out, json.dumps({**values, **origin}, indent=1) + "\n")


def measured(folder: Path, only: str, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of all faults in whose name a word stands; said on stderr, too."""
    for name, seeded in (("new", seed), ("old", seed + 1)):
        if not (folder / name).is_dir():
            (folder / name).mkdir(parents=True)
            deploy(folder / name, SMALL, seeded)
    expected = Expected.of(folder / "new" / "parties", 8, TOLERANCE, seed)
    with Cluster(folder / "new" / "deployed") as cluster:
        cluster.start(*ROLES)
        trial = Trial(cluster, expected)
        cluster.measure(trial.text)
        cases: dict[str, Callable[[], dict[str, Any]]] = {}
        for fault in all_faults():
            cases[str(fault)] = lambda fault=fault: trial.run(fault)
        cases["delayed"], cases["late start"] = trial.delayed, trial.late_start
        for role in ROLES:
            other = partial(trial.other_export, role, folder / "old" / "parties", folder / "restored" / role)
            cases[f"other export, {role}"] = other
            cases[f"log on a full disk, {role}"] = partial(trial.full_log, role)
            cases[f"read-only folder, {role}"] = partial(trial.read_only, role)
        for name, case in cases.items():
            if only in name:
                row = case()
                print(json.dumps(row), file=sys.stderr, flush=True)
                yield row


if __name__ == "__main__":
    main()
