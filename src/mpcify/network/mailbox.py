"""What has arrived from one peer: each message once, by its key."""

import re
import threading
from bisect import bisect_right

NUMBER = re.compile(r"(0|[1-9][0-9]{0,17})\Z")  # at the end of a key
BESIDE = 512  # bytes that a message takes beside its contents: its key, and what holds both


class Keys:
    """A set of keys. Those that differ in the number at their end alone are kept as runs of whole numbers.

    A counter thus takes two numbers, whatever it has counted, and a gap in it two more. Nothing is assumed of the order
    in which keys come.
    """

    def __init__(self) -> None:
        self.single: set[str] = set()
        self.runs: dict[str, tuple[list[int], list[int]]] = {}  # text → first numbers of its runs, and ends
        self._gaps = 0  # runs beyond the first of each text

    def __len__(self) -> int:
        """How many runs, and keys without a number, there are: what the memory follows."""
        return len(self.single) + len(self.runs) + self._gaps

    def __contains__(self, key: str) -> bool:
        text, number = split(key)
        if number is None:
            return text in self.single
        firsts, ends = self.runs.get(text, ([], []))
        place = bisect_right(firsts, number)
        return place > 0 and number < ends[place - 1]

    def add(self, key: str) -> bool:
        """Adds a key; whether it was not there."""
        if key in self:
            return False
        text, number = split(key)
        if number is None:
            self.single.add(text)
            return True
        firsts, ends = self.runs.setdefault(text, ([], []))
        place = bisect_right(firsts, number)  # of the first run above the number
        before = place > 0 and ends[place - 1] == number
        behind = place < len(firsts) and firsts[place] == number + 1
        if before and behind:
            ends[place - 1] = ends.pop(place)
            firsts.pop(place)
            self._gaps -= 1
        elif before:
            ends[place - 1] += 1
        elif behind:
            firsts[place] -= 1
        else:
            self._gaps += bool(firsts)
            firsts.insert(place, number)
            ends.insert(place, number + 1)
        return True


def split(key: str) -> tuple[str, int | None]:
    """A key's text, and the number at its end. No two keys have the same."""
    match = NUMBER.search(key)
    return (key, None) if match is None else (key[: match.start()], int(match[0]))


class Mailbox:
    """Messages from one peer, until they are taken. Any thread may put and take.

    It holds whatever comes: who reads from a peer bounds what that may leave here, by `wait_for_room`.
    """

    def __init__(self) -> None:
        self._messages: dict[str, bytes] = {}
        self._held = 0  # bytes that the messages take
        self._arrived = Keys()
        self._asked: set[str] = set()  # keys that somebody waits for, and that have not arrived
        self._change = threading.Condition()
        self._full = False  # somebody waits for room
        self._wide = False  # nobody has to
        self.closed: str | None = None  # the reason, "" for none

    def put(self, key: str, message: bytes) -> None:
        """Adds a message. Raises ValueError for a key that has arrived before, ConnectionError if it is closed."""
        with self._change:
            if self.closed is not None:
                raise ConnectionError(self.closed)
            if not self._arrived.add(key):
                raise ValueError(f"{key!r} has arrived before")
            self._messages[key] = message
            self._held += len(message) + BESIDE
            self._asked.discard(key)
            self._change.notify_all()

    def take(self, key: str, timeout: float) -> bytes:
        """Waits for a message and takes it.

        Raises TimeoutError after `timeout` seconds, ConnectionError if it is closed without this message, ValueError
        for one that was taken before.
        """
        with self._change:
            if key not in self._arrived:
                self._asked.add(key)
                self._tell()
                if not self._change.wait_for(lambda: self.closed is not None or key in self._arrived, timeout):
                    self._asked.discard(key)
                    raise TimeoutError(f"no {key!r} within {timeout:g} s")
            if key in self._messages:
                message = self._messages.pop(key)
                self._held -= len(message) + BESIDE
                self._tell()
                return message
            if key in self._arrived:
                raise ValueError(f"{key!r} was taken before")
            raise ConnectionError(self.closed)

    def wait_for_room(self, room: int) -> int:
        """Waits until messages take fewer than `room` bytes, or somebody asks for one that has not arrived, or it is
        closed. The bytes that they take.
        """
        with self._change:
            self._full = True
            self._change.wait_for(lambda: self._held < room or self._asked or self._wide or self.closed is not None)
            self._full = False
            return self._held

    def open_wide(self) -> None:
        """Nobody waits for room from now on."""
        with self._change:
            self._wide = True
            self._change.notify_all()

    def _tell(self) -> None:
        """Wakes who waits for room."""
        if self._full:
            self._change.notify_all()

    def close(self, reason: str = "") -> None:
        """Takes no more messages, and wakes whoever waits for one. Those that have arrived can still be taken.

        reason: what later callers are told; of several calls the first one's.
        """
        with self._change:
            self.closed = reason if self.closed is None else self.closed
            self._change.notify_all()
