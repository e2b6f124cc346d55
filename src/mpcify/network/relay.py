"""Stands where lines meet and passes on what comes, at a rate and after a delay, as a switch with lines of that kind.

    python relay.py GIGABITS SECONDS DEVICE...

A frame takes its length over the rate on the sender's line and, side by side with that, on the receiver's. It waits for
those before it on both, and then for the delay. Nothing is dropped. Frames come as TCP sends them, up to 64 KiB in one,
so that a fast line costs few of them. It says `ready`, and runs until it is ended. Linux, root.
"""

import heapq
import itertools
import os
import select
import socket
import sys
import time
from pathlib import Path

SOL_PACKET, VNET_HEADER, IGNORE_OUTGOING = 263, 15, 23  # of <linux/if_packet.h>
RECEIVE_BUFFER, SEND_BUFFER, EVERY_PROTOCOL = 33, 32, 3  # SO_RCVBUFFORCE, SO_SNDBUFFORCE, ETH_P_ALL
HEADER = 10  # bytes before a frame: how the kernel is to cut it
LARGEST = 1 << 17
BUFFER = 1 << 26


class Lines:
    """When frames arrive that have to go over lines. rate: bytes a second, both ways. delay: seconds."""

    def __init__(self, count: int, rate: float, delay: float) -> None:
        self.rate, self.delay = rate, delay
        self.up, self.down = [0.0] * count, [0.0] * count  # when each line is free again

    def sent(self, source: int, size: int, now: float) -> float:
        """When the last byte of a frame has left its sender."""
        self.up[source] = max(now, self.up[source]) + size / self.rate
        return self.up[source]

    def arrival(self, goal: int, size: int, sent: float) -> float:
        """When it has arrived."""
        self.down[goal] = max(sent, self.down[goal] + size / self.rate)
        return self.down[goal] + self.delay


def opened(device: str) -> socket.socket:
    """All frames of a device but those that leave by it."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, VNET_HEADER, 1)
    end.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    for buffer in (RECEIVE_BUFFER, SEND_BUFFER):
        end.setsockopt(socket.SOL_SOCKET, buffer, BUFFER)
    end.bind((device, EVERY_PROTOCOL))
    end.setblocking(False)
    return end


def relay(lines: Lines, ends: list[socket.socket]) -> None:
    """Passes frames on for ever: to the line where their goal was heard of, or to all others."""
    known: dict[bytes, int] = {}
    waiting: list[tuple[float, int, int, bytes]] = []
    order, room = itertools.count(), memoryview(bytearray(LARGEST))
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(ends, (), (), patience)[0]:
            source = ends.index(end)
            while frame := taken(end, room):
                size = len(frame) - HEADER
                goal, known[frame[HEADER + 6 : HEADER + 12]] = frame[HEADER : HEADER + 6], source
                sent = lines.sent(source, size, time.monotonic())
                for place in [known[goal]] if goal in known else set(range(len(ends))) - {source}:
                    heapq.heappush(waiting, (lines.arrival(place, size, sent), next(order), place, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, place, frame = heapq.heappop(waiting)
            ends[place].send(frame)


def taken(end: socket.socket, room: memoryview) -> bytes | None:
    """The next frame that has come, if one has. room: for the largest that there is, used again and again."""
    try:
        return bytes(room[: end.recv_into(room)])
    except BlockingIOError:
        return None


def main() -> None:
    gigabits, delay, *devices = sys.argv[1:]
    ends = [opened(device) for device in devices]
    # A line waits for no processor: nobody else's work may come before it, nor timers be late.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    Path("/proc/self/timerslack_ns").write_text("1000", encoding="ascii")
    print("ready", flush=True)
    relay(Lines(len(ends), float(gigabits) * 1e9 / 8, float(delay)), ends)


if __name__ == "__main__":
    main()
