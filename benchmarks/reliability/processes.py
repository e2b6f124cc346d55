"""Parties and clients as processes: started, watched, measured, killed and frozen from outside."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

WORKER = b"mpcify.engines.spu.worker"
STARTING, LIMIT = 180.0, 180.0  # seconds until a process is up, and after which something counts as hung
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """A process that says on one of its streams, in JSON lines, what happens. Killed when its `with` block ends."""

    def __init__(self, words: list[str], stream: str, prefix: tuple[str, ...] = (), **options: Any) -> None:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "text": True}
        given |= {stream: subprocess.PIPE, **options}
        self.process = subprocess.Popen([*prefix, sys.executable, "-P", "-m", *words], **given)
        self.said: list[dict[str, Any]] = []
        self.change = threading.Condition()
        self.ended = False
        threading.Thread(target=self.follow, args=(getattr(self.process, stream),), daemon=True).start()

    def follow(self, stream: Any) -> None:
        for line in stream or ():
            with self.change:
                with suppress(ValueError):
                    self.said.append(json.loads(line))
                self.change.notify_all()
        with self.change:
            self.ended = True
            self.change.notify_all()
        if stream is not None:
            stream.close()

    def wait(self, key: str, value: Any, after: int = 0, timeout: float = LIMIT) -> dict[str, Any]:
        """The first line after so many that has this value. Raises TimeoutError; EOFError if the process ends before.

        Whoever waits for what a hung process would say is told within `timeout` seconds.
        """

        def found() -> dict[str, Any] | None:
            return next((line for line in self.said[after:] if line.get(key) == value), None)

        with self.change:
            if not self.change.wait_for(lambda: found() or self.ended, timeout):
                raise TimeoutError(f"no {value} within {timeout:g} s")
            line = found()
        if line is None:
            raise EOFError(f"it ended before {value}")
        return line

    @property
    def pid(self) -> int:
        return self.process.pid

    def engine(self) -> int | None:
        """The process of its engine, while there is one."""
        with suppress(OSError):
            for task in Path(f"/proc/{self.pid}/task").iterdir():  # a thread's children stand under the thread
                for child in (task / "children").read_text().split():
                    if WORKER in Path(f"/proc/{child}/cmdline").read_bytes():
                        return int(child)
        return None

    def memory(self) -> dict[str, float]:
        """MiB that the process and its engine hold."""
        found = {"process": self.pid, "engine": self.engine()}
        return {name: resident(pid) for name, pid in found.items() if pid is not None}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = LIMIT) -> int:
        """Ends it as a service manager does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Party(Process):
    """`mpcify party serve`, ready. prefix: of its command line."""

    def __init__(self, folder: Path, prefix: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(["mpcify", "party", "serve", str(folder)], "stderr", prefix, **options)
        if "stderr" not in options:
            self.wait("event", "ready", timeout=STARTING)


class Client(Process):
    """`caller` over a client's folder. prefix: of its command line."""

    def __init__(self, folder: Path, callers: int = 1, prefix: tuple[str, ...] = ()) -> None:
        words = ["benchmarks.reliability.caller", str(folder), str(callers)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        super().__init__(words, "stdout", prefix, stdin=subprocess.PIPE, env=environment)
        self.asked = 0

    def connected(self, timeout: float = LIMIT) -> dict[str, Any]:
        """How the first session came about."""
        return self.wait("id", "connected", timeout=timeout)

    def send(self, text: str) -> int:
        """Asks; the number of the request."""
        with self.change:
            self.asked += 1
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps({"id": self.asked, "text": text}) + "\n")
            self.process.stdin.flush()
            return self.asked

    def ask(self, text: str, timeout: float = LIMIT) -> dict[str, Any]:
        """Asks, and waits for the answer, or for the error."""
        return self.wait("id", self.send(text), timeout=timeout)


def resident(pid: int) -> float:
    """MiB that a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
