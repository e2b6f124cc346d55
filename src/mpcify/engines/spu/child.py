"""The parent's side of the process in which SPU lives.

SPU needs OMP_THREAD_LIMIT=1 before libgomp loads (torch loads the same libgomp), writes to stdout, and a failure in it
can end its process: so it gets one of its own. Frames go over two pipes; its stdout and stderr go to a file in memory.
"""

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays
from mpcify.engines.spu.failure import WHERE
from mpcify.errors import MpcifyError
from mpcify.network.frames import FrameError, read_frame, write_frame

MODULE = "mpcify.engines.spu.worker"
TAIL = 300  # characters of the child's last words in an error
RESTART = "start again, with more memory if it ran out (weights take about 16 bytes each at every party)"
PULSE = 1.0  # seconds between two looks at a child that computes
# Looks in a row at which a stopped child counts as frozen: a whole job that is suspended comes back sooner.
PATIENCE = 5
GRACE = 2.0  # seconds in which a child whose pipe broke must end by itself


class Child:
    """A running child. It ends when it is closed, when a request fails, with its last reference and with this process.

    Threads may share it: requests take turns. Whoever needs several requests in a row holds `turn`.
    opener: the file descriptor of its end of a socket over which this process relays its links; None: it has its own.
    Raises MPC-503 if it cannot start, dies or is stopped, MPC-504 if SPU cannot be loaded in it, MPC-506 in another
    process than this one: after a fork, both would read from the same pipes.
    """

    def __init__(self, opener: int | None = None) -> None:
        self.parent, self.turn = os.getpid(), threading.RLock()
        self.closed, self.frozen, self.tail = False, False, ""
        request_end, self_end = os.pipe()
        answer_end, reply_end = os.pipe()
        self.output = os.fdopen(os.memfd_create("spu-output"), "w+b")
        self.requests = os.fdopen(self_end, "wb", buffering=0)
        self.replies = os.fdopen(answer_end, "rb")
        files = (self.requests, self.replies, self.output)
        given = (request_end, reply_end, *(() if opener is None else (opener,)))
        try:
            self.process = subprocess.Popen(
                # -P: what lies in the working directory is not imported
                [sys.executable, "-P", "-m", MODULE, *map(str, given)],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                pass_fds=given,
                env={**os.environ, "OMP_THREAD_LIMIT": "1", "JAX_PLATFORMS": "cpu"},
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        except OSError:
            for file in files:
                file.close()
            raise MpcifyError(503, WHERE, "its process cannot start", RESTART) from None
        finally:
            os.close(request_end)
            os.close(reply_end)
        self.end = weakref.finalize(self, end, self.process, files, self.parent)

    def ask(
        self, request: Mapping[str, Any], arrays: Arrays | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The reply to one request. Whatever goes wrong ends the child: its parties are no longer in step."""
        if os.getpid() != self.parent:
            raise MpcifyError(506, WHERE, "its session belongs to another process", "compile the model in this process")
        with self.turn:
            if self.closed:
                raise MpcifyError(503, WHERE, "its session has ended", "compile the model again")
            try:
                with self.watched():
                    write_frame(self.requests, request, arrays)
                    reply, outputs = read_frame(self.replies)
            except (OSError, EOFError, FrameError):
                raise MpcifyError(503, WHERE, self.last_words(), RESTART) from None
            except BaseException:
                self.close()
                raise
            if "error" in reply:
                self.close()
                raise MpcifyError(reply["code"], reply["where"], reply["error"], reply["remedy"])
            return reply, outputs

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While open, a child that stays stopped is killed, so that neither its pipes nor its parent wait for it."""
        done = threading.Event()
        threading.Thread(target=self.watch, args=(done,), daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def watch(self, done: threading.Event) -> None:
        """Looks at the child until the request is done. One that computes may take as long as it likes."""
        looks = 0
        while not done.wait(PULSE):
            looks = looks + 1 if is_stopped(self.process.pid) else 0
            if looks == PATIENCE:
                self.frozen = True
                self.process.kill()

    def last_words(self) -> str:
        """How the child ended, and the last line that it wrote; closes it."""
        if self.closed:
            return "its session was closed during the request"
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)  # it is about to end: its exit code says why
        self.close()
        if self.frozen:
            return "its process was stopped from outside"
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its process ended ({how}){': ' if self.tail else ''}{self.tail}"

    def close(self) -> None:
        """Ends the child, in the middle of another thread's request too, and waits until it is gone."""
        if os.getpid() != self.parent:
            return
        self.closed = True
        self.process.kill()  # first: what waits for it in another thread goes on, and gives up its turn
        with self.turn:
            if self.end.alive:
                self.tail = last_line(self.output)
            self.end()


def cost_of(reply: Mapping[str, Any]) -> Cost:
    """The cost in a reply."""
    return Cost(**reply["cost"])


def end(process: subprocess.Popen, files: tuple[BinaryIO, ...], parent: int) -> None:
    """Kills a child, waits until it is gone, and closes what led to it; nothing in a process forked from its parent."""
    if os.getpid() == parent:
        process.kill()  # a stopped one ends too, and there is nothing that it would have to save
        process.wait()
        for file in files:
            file.close()


def is_stopped(pid: int) -> bool:
    """Whether a child of this process is stopped (SIGSTOP); one under a debugger does not count."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def last_line(output: BinaryIO) -> str:
    """The last words in a file."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL))
    lines = output.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
