"""`python -m mpcify` and the console script: an interrupt is a numbered line from the first import on."""

import os
import signal
from contextlib import suppress

from mpcify.errors import interrupted


def leave(*_: object) -> None:
    """Ends at once: nothing has begun yet that would be cleaned up."""
    with suppress(OSError):
        os.write(2, f"{interrupted('mpcify')}\n".encode())
    os._exit(2)


def main() -> None:
    """The command line, which has handlers of its own once it is imported. A signal that was ignored stays ignored."""
    for caught in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(caught) != signal.SIG_IGN:
            signal.signal(caught, leave)
    from mpcify.cli.main import main as work

    work()


if __name__ == "__main__":
    main()
