"""The parent's side of the process in which SPU lives.

SPU needs OMP_THREAD_LIMIT=1 before libgomp loads (torch loads the same libgomp), writes to stdout, and a failure in it
can end its process: so it gets one of its own. Frames go over two pipes; its stdout and stderr go to a file.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from mpcify.engines.engine import Arrays
from mpcify.errors import MpcifyError
from mpcify.network.frames import FrameError, read_frame, write_frame

MODULE = "mpcify.engines.spu.worker"
WHERE = "spu engine"
TAIL = 300  # characters of the child's last words in an error
RESTART = "start again, with more memory if it ran out (weights take about 16 bytes each at every party)"
INSTALL = "pip install 'mpcify[spu]', and the system package libgomp1"


class Child:
    """A running child. It ends when it is closed, when a request fails, and with this process.

    Raises MPC-503 where it cannot start or dies, MPC-504 where SPU cannot be loaded in it.
    """

    def __init__(self) -> None:
        request_end, self_end = os.pipe()
        answer_end, reply_end = os.pipe()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        self.requests = os.fdopen(self_end, "wb", buffering=0)
        self.replies = os.fdopen(answer_end, "rb")
        try:
            self.process = subprocess.Popen(
                # -P: what lies in the working directory is not imported
                [sys.executable, "-P", "-m", MODULE, str(request_end), str(reply_end)],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                pass_fds=(request_end, reply_end),
                env={**os.environ, "OMP_THREAD_LIMIT": "1", "JAX_PLATFORMS": "cpu"},
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        except OSError:
            for stream in (self.requests, self.replies, self.output):
                stream.close()
            raise MpcifyError(503, WHERE, "its process cannot start", RESTART) from None
        finally:
            os.close(request_end)
            os.close(reply_end)

    def ask(
        self, request: Mapping[str, Any], arrays: Arrays | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The reply to one request. Whatever goes wrong ends the child: its parties are no longer in step."""
        if self.closed:
            raise MpcifyError(503, WHERE, "its session has ended", "open a new one")
        try:
            write_frame(self.requests, request, arrays)
            reply, outputs = read_frame(self.replies)
        except (OSError, EOFError, FrameError):
            raise MpcifyError(503, WHERE, self.last_words(), RESTART) from None
        except BaseException:
            self.close()
            raise
        if "error" in reply:
            self.close()
            remedy = INSTALL if reply["code"] == 504 else "check the model with --engine fixed, then report this"
            raise MpcifyError(reply["code"], WHERE, reply["error"], remedy)
        return reply, outputs

    def last_words(self) -> str:
        """How the child ended, and the last line that it wrote; closes it."""
        self.close()
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its process ended ({how}){': ' if self.tail else ''}{self.tail}"

    @property
    def closed(self) -> bool:
        """Whether the child was ended."""
        return self.requests.closed

    def close(self) -> None:
        """Ends the child, in the middle of a request too, and waits until it is gone."""
        if self.closed:
            return
        self.requests.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - TAIL))
        lines = self.output.read().decode(errors="replace").split("\n")
        self.tail = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self.output.close()
        self.replies.close()
