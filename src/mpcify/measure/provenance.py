"""Where a number comes from: what every committed result says beside it."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any


def provenance(seed: int | None = None) -> dict[str, Any]:
    """commit (and whether the tree differed from it), machine, seed and command."""
    return {"commit": commit(), "machine": machine(), "seed": seed, "command": command()}


def commit() -> str | None:
    """The commit that runs, "+" behind it if files differ; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder.parent))
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def code_digest() -> str:
    """SHA-256 over the names and contents of the package's source files: a checkout changes within a version."""
    folder, digest = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def machine() -> dict[str, Any]:
    """The processor, its cores, memory (GiB) and the Python that runs; no name of the machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
    }


def command() -> str:
    """The command as it was typed, as far as it says nothing of the machine."""
    spec, first = sys.modules["__main__"].__spec__, sys.argv[0]
    if Path(first).name == "mpcify" or (spec is not None and spec.name == "mpcify.__main__"):
        program = ["mpcify"]
    else:
        program = ["python", *([portable(first)] if spec is None else ["-m", spec.name])]
    return shlex.join([*program, *map(portable, sys.argv[1:])])


def portable(word: str) -> str:
    """A word of a command; of an absolute path what lies below the current folder or the environment's, or its name."""
    if word.startswith("-") and "=" in word:
        option, _, value = word.partition("=")
        return f"{option}={portable(value)}"
    path = Path(os.path.normpath(word))
    if not path.is_absolute():
        return word
    environment = [Path(sys.prefix).parent] if sys.prefix != sys.base_prefix else []
    for folder in (Path.cwd(), *environment):
        if folder != folder.parent and path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return path.name
