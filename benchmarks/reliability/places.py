"""Where parties of this machine listen."""

import socket
from contextlib import ExitStack


def free_addresses(count: int) -> list[str]:
    """Addresses of the loopback at which nobody listened a moment ago."""
    with ExitStack() as open_ones:
        held = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
