"""The command `mpcify`: one verb a stage."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from mpcify import __version__
from mpcify.cli.bench import bench
from mpcify.cli.check import check
from mpcify.cli.convert import convert
from mpcify.cli.demo import demo
from mpcify.cli.distill import distill
from mpcify.cli.estimate import estimate
from mpcify.cli.evaluate import evaluate
from mpcify.cli.export import export
from mpcify.cli.infer import infer
from mpcify.cli.profile import profile
from mpcify.cli.verb import complain, debugging

app = typer.Typer(
    name="mpcify",
    help="Turn a Hugging Face Transformer into an MPC-friendly one, and run it privately.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (check, convert, distill, evaluate, infer, export, profile, estimate, bench, demo):
    app.command()(command)


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
        with termination_as_interrupt():
            return int(app(args=arguments, standalone_mode=False) or 0)
    except Exception as error:
        return complain(error)


def quieten() -> None:
    """Asks the libraries that a verb will import to keep their advice to themselves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():  # nobody watches: errors alone
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """While open, SIGTERM ends the work as Ctrl-C does, so that nothing half-written stays."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def main() -> None:
    """The console script."""
    sys.exit(run())
