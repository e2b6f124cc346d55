"""Dialling a peer over gRPC: again and again while it is not there; a numbered error if it stays away or refuses."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass

from mpcify.errors import MpcifyError
from mpcify.network.links import Limits
from mpcify.network.stream import Stream
from mpcify.network.threads import Threads
from mpcify.network.tls import ANSWER, KEEPALIVE, Credentials, secure_channel
from mpcify.network.wire import VERSION, largest_frame, one_line

METHOD = "/mpcify.Links/Stream"
SESSION, WIRE = "mpcify-session", "mpcify-wire"  # what a stream is for, in its metadata
PAUSE = 0.2  # seconds between tries
BUSY = KEEPALIVE + ANSWER + 1  # seconds until a connection under our name that is dead has been found
REFUSALS = {"PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
# words of gRPC's reason if a peer is not who it should be
UNTRUSTED = re.compile(r"SSL_ERROR_SSL|certificate|verification check", re.IGNORECASE)
VERIFIED = re.compile(r"SSL_ERROR_SSL.*: ([a-z ]+): OK$")  # what of a long reason says something to people
# what TLS 1.3 shows of a refused certificate: the peer closes right after the handshake
CLOSED = "Socket closed"
# closed sooner: by what forwards a port, and finds that nobody is there yet
UNFINISHED = "Handshake read failed"
WAITS = "it waits for the others"
LAST = "last error: "  # what gRPC says before it is the same for every failure


@dataclass(frozen=True)
class Dialler:
    """Opens streams for one party. credentials: read anew for each try."""

    name: str
    credentials: Callable[[], Credentials]
    limits: Limits

    def reach_all(
        self, addresses: Mapping[str, str], session: str, timeout: float, closed: threading.Event
    ) -> dict[str, Stream]:
        """The streams to all peers, once the session stands at all. Raises as `reach`, and ConnectionError if this
        party is closed meanwhile; what was reached is ended then, with the reason.
        """
        end, given_up = time.monotonic() + timeout + 2 * PAUSE, threading.Event()  # who is not there gives up first

        def wanted() -> bool:
            return time.monotonic() < end and not given_up.is_set() and not closed.is_set()

        pool = Threads()
        reached = {
            peer: pool.submit(self.reach, peer, address, session, timeout, wanted)
            for peer, address in addresses.items()
        }
        try:
            return together(reached, closed)
        except BaseException as error:
            given_up.set()
            reason = str(error)
            for future in reached.values():
                future.add_done_callback(lambda future: future.exception() or future.result().end(reason))
            raise

    def reach(self, peer: str, address: str, session: str, timeout: float, wanted: Callable[[], bool]) -> Stream:
        """A stream to a peer, as soon as the session stands there.

        Raises MPC-703 if the peer has not let this party in after `timeout` seconds, or as soon as the session is not
        wanted any more, MPC-704 if the peer refuses, MPC-705 if it speaks another version.
        """
        end = time.monotonic() + timeout
        doubt: float | None = None  # since when every try looked like a refusal
        reason = ""  # why the last try failed
        while True:
            stream = self.attempt(peer, address, session)
            in_time = True
            while in_time and not stream.wait_until_it_stands(PAUSE) and stream.reason is None:
                in_time = wanted() and (stream.let_in or time.monotonic() < end)
            if stream.stands:
                return stream
            stream.end("nobody waits for it")
            if not in_time:
                raise not_reached(peer, address, timeout, reason or (WAITS if stream.let_in else "no answer"))
            code, reason = why(stream)
            now = time.monotonic()
            closed = CLOSED in reason and UNFINISHED not in reason
            doubt = (doubt or now) if code == "ALREADY_EXISTS" or closed else None
            if code == "UNIMPLEMENTED":
                raise disagree(peer)
            if code in REFUSALS or UNTRUSTED.search(reason) or (doubt and now > min(doubt + BUSY, end)):
                raise refused(peer, reason)
            if now > end or not wanted():
                raise not_reached(peer, address, timeout, reason)
            time.sleep(PAUSE)

    def attempt(self, peer: str, address: str, session: str) -> Stream:
        """A stream that has been asked for; what becomes of it is its own to say."""
        channel = secure_channel(address, peer, self.credentials(), largest_frame(self.limits))
        stream = Stream(peer, session, self.limits, dialled=True)
        call = channel.stream_stream(METHOD)(stream.outgoing(), metadata=((SESSION, session), (WIRE, VERSION)))

        def cut() -> None:
            call.cancel()
            channel.close()

        stream.cut = cut
        call.add_callback(stream.lose)
        threading.Thread(target=stream.pump, args=(call,), daemon=True).start()
        return stream


def together(reached: Mapping[str, Future[Stream]], closed: threading.Event) -> dict[str, Stream]:
    """The streams, once all are there. An error ends it, and so does a peer that leaves before.

    If several peers fail, one that only waited for the others is not the one to name.
    """
    missing = {*reached.values()}
    while missing:
        _, missing = wait(missing, PAUSE, FIRST_EXCEPTION)
        if closed.is_set():
            raise ConnectionError("the network is closed")
        if any(future.done() and future.exception() for future in reached.values()):
            done, _ = wait(reached.values(), 2 * PAUSE)
            raise min(filter(None, (future.exception() for future in done)), key=lambda error: WAITS in str(error))
        for peer, future in reached.items():
            if future.done() and (reason := future.result().reason) is not None:
                what = f"it left before the session stood ({reason})"
                raise MpcifyError(703, peer, what, "ask again; see that party's log")
    return {peer: future.result() for peer, future in reached.items()}


def why(stream: Stream) -> tuple[str, str]:
    """gRPC's code, and the reason in one line, for a stream that ended before its session stood."""
    stream.finished.wait(1.0)
    error = stream.error
    if error is None or not hasattr(error, "code"):
        return "", stream.reason or ""
    return error.code().name, one_line((error.details() or error.code().name).rpartition(LAST)[2])


def refused(peer: str, reason: str) -> MpcifyError:
    """The error for a peer that does not let this party in, or is not who it should be."""
    remedy = "check both parties' certificates (mpcify doctor), and end any other process under this party's name"
    if found := VERIFIED.search(reason):
        reason = f"its certificate does not verify ({found[1]})"
    return MpcifyError(704, peer, f"it refuses this party, or proves to be another: {reason}", remedy)


def not_reached(peer: str, address: str, timeout: float, reason: str) -> MpcifyError:
    """The error for a peer that nobody reaches."""
    what = f"not reached at {address} within {timeout:g} s ({reason})"
    return MpcifyError(703, peer, what, "start it (mpcify party serve), and check its address and the firewall")


def disagree(peer: str) -> MpcifyError:
    """The error for a peer whose frames are of another version."""
    return MpcifyError(705, peer, "it speaks another version of the protocol", "install the same version of mpcify")
