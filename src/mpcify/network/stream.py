"""One party's end of the stream to one peer: what waits to be sent, what arrived, and how it ends.

It knows gRPC by two things alone: it iterates over the frames that come, and gRPC iterates over those that go.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from mpcify.network.links import Limits
from mpcify.network.mailbox import Mailbox
from mpcify.network.wire import LET_IN, STANDS, Goodbye, Reader, WireError, frames, goodbye, one_line

LINGER = 2.0  # seconds in which the peer has to take what is left, and the goodbye
REFUSING = 10.0  # seconds in which a caller whose session never stood is told why


class Stream:
    """A stream to or from a peer, in one session. Threads: one reads (`pump`), gRPC's own asks for what goes.

    dialled: by this party; the peer then says when it has let this one in, and when the session stands. Before that
    nobody sends anything else. `cut` ends it at once, whatever is on its way; `ended` is called when it begins to end.
    """

    def __init__(self, peer: str, session: str, limits: Limits, dialled: bool) -> None:
        self.peer, self.session, self.limits, self.dialled = peer, session, limits, dialled
        self.inbox = Mailbox()
        self.let_in = not dialled  # the caller
        self.stands = False
        self.reason: str | None = None  # why it ended; None while it goes on
        self.error: Any = None  # of the connection, if that is why
        self.retry = True  # whether a caller that was not let in may come again
        self.finished = threading.Event()  # nothing comes any more
        self.over = threading.Event()  # of a stream that was accepted: gRPC has ended it
        self.cut: Callable[[], object] = lambda: None
        self.ended: Callable[[Stream], object] = lambda stream: None
        self._reader = Reader(limits)
        self._queue: SimpleQueue[tuple[str, bytes] | None] = SimpleQueue()
        self._queued = 0  # bytes
        self._flush = True  # whether what is queued still goes out
        self._last: bytes | None = None  # the goodbye
        self._change = threading.Condition()

    def stand(self) -> None:
        """All parties have joined the session."""
        with self._change:
            self.stands = True
            self._change.notify_all()

    def wait_until_it_stands(self, timeout: float) -> bool:
        """Whether the session stands, or stood, within this time; False as soon as the stream ends before."""
        with self._change:
            self._change.wait_for(lambda: self.stands or self.reason is not None, timeout)
            return self.stands

    def send(self, key: str, message: bytes, timeout: float) -> None:
        """Queues a message; waits while as many bytes are queued as may wait.

        Raises TimeoutError, ConnectionError with the reason if the stream has ended, ValueError if a limit forbids it.
        """
        if len(message) > self.limits.message or len(key) > self.limits.key:
            raise ValueError(f"a message of {len(message)} bytes under {len(key)} characters is above the limits")
        with self._change:
            free = self._change.wait_for(lambda: self.reason is not None or self._queued < self.limits.waiting, timeout)
            if not free:
                raise TimeoutError(f"{self.peer} has not taken what was sent before within {timeout:g} s")
            if self.reason is not None:
                raise ConnectionError(self.reason)
            self._queued += len(message)
            self._queue.put((key, message))

    def outgoing(self) -> Iterator[bytes]:
        """What goes to the peer. gRPC asks for the next frame when the last one has left."""
        while (queued := self._queue.get()) is not None and self._flush:
            for frame in frames(*queued):
                yield frame
                if not self._flush:
                    break
            with self._change:
                if self._queued >= self.limits.waiting:
                    self._change.notify_all()
                self._queued -= len(queued[1])
        if self._last is not None:
            yield self._last

    def pump(self, incoming: Iterable[bytes]) -> None:
        """Reads what comes until it ends. After the end of this side it reads on, so that the peer can end its own."""
        try:
            for frame in incoming:
                if self.reason is None:
                    self._take(frame)
        except Exception as error:  # gRPC raises several, a bare Exception among them
            self.error = error
        finally:
            details = one_line(str(getattr(self.error, "details", str)() or ""))
            self._end(f"the connection to {self.peer} was lost{f' ({details})' if details else ''}")
            self.finished.set()

    def _take(self, frame: bytes) -> None:
        """Takes one frame. What breaks the protocol ends the stream."""
        try:
            if not self.stands:
                self._take_before(frame)
                return
            found = self._reader.read(frame)
            if isinstance(found, Goodbye):
                self._end(found)
            elif found is not None:
                with suppress(ConnectionError):  # this side has ended meanwhile
                    self.inbox.put(*found)
                held = self.inbox.wait_for_room(self.limits.waiting)
                if held > self.limits.waiting + max(self.limits.waiting, self.limits.message):
                    raise WireError("it sends ever more that nobody asks for")
        except WireError as error:
            self._end(f"MPC-707 {self.peer} broke the protocol: {error}", tell=True)

    def _take_before(self, frame: bytes) -> None:
        """Takes what may come before the session stands."""
        if frame != (STANDS if self.let_in else LET_IN) or not self.dialled:
            raise WireError("it spoke before the session stood")
        if self.let_in:
            self.stand()
        self.let_in = True

    def end(self, reason: str) -> None:
        """Ends the stream, without waiting: what was sent goes out, then the reason, then nothing.

        Only the first call counts.
        """
        self._end(reason, tell=True, flush=True)

    def lose(self) -> None:
        """The connection has ended: nobody waits for room any more, so that `pump` reads what is left, and why."""
        self.over.set()
        self.inbox.open_wide()

    def _end(self, reason: str, *, tell: bool = False, flush: bool = False) -> None:
        """tell: the peer the reason. flush: what is queued still goes out."""
        with self._change:
            if self.reason is not None:
                return
            self.reason, self._flush = reason, flush
            self._last = goodbye(reason) if tell and self.stands else None
            self._change.notify_all()
        self.inbox.close(reason)
        self._queue.put(None)
        self.ended(self)
        with suppress(RuntimeError):  # no thread begins while Python exits
            threading.Thread(target=self._finish, daemon=True).start()

    def _finish(self) -> None:
        """Gives the peer time for all that is queued, then for the goodbye alone, then ends the stream anyhow.

        A caller whose session never stood hears why from the status that ends its stream; a cut would take its place.
        """
        if not self.stands and not self.dialled:
            self.over.wait(REFUSING)
        elif not self.finished.wait(LINGER / 2):
            self._flush = False
            self.finished.wait(LINGER / 2)
        self.cut()

    def join(self, deadline: float) -> None:
        """Waits until the peer has ended its side too, or until this time of the monotonic clock."""
        self.finished.wait(max(0.0, deadline - time.monotonic()))
