"""The command `mpcify`: one verb a stage."""

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from mpcify import __version__
from mpcify.cli.bench import bench
from mpcify.cli.check import check
from mpcify.cli.convert import convert
from mpcify.cli.demo import demo
from mpcify.cli.distill import distill
from mpcify.cli.doctor import doctor
from mpcify.cli.estimate import estimate
from mpcify.cli.evaluate import evaluate
from mpcify.cli.export import export
from mpcify.cli.gateway import gateway
from mpcify.cli.infer import infer
from mpcify.cli.keys import keys
from mpcify.cli.party import party
from mpcify.cli.profile import profile
from mpcify.cli.verb import complain, debugging

INTERRUPTED = 130  # typer's exit code if Ctrl-C comes before a verb works
REPEATED = 5.0  # seconds in which another Ctrl-C means the same as the one before

app = typer.Typer(
    name="mpcify",
    help="Turn a Hugging Face Transformer into an MPC-friendly one, and run it privately.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (check, convert, distill, evaluate, infer, export, profile, estimate, bench, gateway, doctor, demo):
    app.command()(command)
for group in (keys, party):
    app.add_typer(group)


def print_version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        print(f"mpcify {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Turn a Hugging Face Transformer into an MPC-friendly one, and run it privately."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; its exit code: 0, 2 (one numbered line: the user can mend it) or 1 (a failure)."""
    if not debugging():
        quieten()
    try:
        code = int(app(args=arguments, prog_name="mpcify", standalone_mode=False) or 0)
        return complain(KeyboardInterrupt()) if code == INTERRUPTED else code
    except SystemExit:  # typer and rich end so if the reader of --help went away
        return complain(BrokenPipeError())
    except (Exception, KeyboardInterrupt) as error:
        return complain(error)


def quieten() -> None:
    """Asks the libraries that a verb will import to keep their advice to themselves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not (sys.stderr and sys.stderr.isatty()):  # nobody watches: errors alone
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def open_streams() -> None:
    """Leads streams that the shell closed to nowhere, and lets stdout escape what its encoding lacks.

    Else the next file that is opened becomes stdout or stderr, and gets what libraries write there.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest descriptor that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def flush_streams(code: int) -> int:
    """Writes what is still held back; the exit code, another if stdout refuses. Python's own attempt would show it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or complain(error)
    return code


def interrupt_once() -> None:
    """SIGTERM ends the work as Ctrl-C does, so that nothing half-written stays.

    Either counts once in a while: more of them must not break what cleans up. A signal that was ignored stays ignored.
    """
    last = -math.inf

    def interrupt(*_: object) -> None:
        nonlocal last
        if time.monotonic() - last > REPEATED:
            last = time.monotonic()
            raise KeyboardInterrupt

    for caught in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(caught) != signal.SIG_IGN:
            signal.signal(caught, interrupt)


def main() -> None:
    """The console script."""
    open_streams()
    interrupt_once()
    code = run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left takes no time, and would show where it was broken off
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(flush_streams(code))
