"""What the real runs share: a verb as a user types it, and its answer kept as a result."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from mpcify.files import write_whole
from mpcify.measure.provenance import portable, provenance

RESULTS = Path(__file__).parent / "results"


def verb(*words: str, seed: int = 0) -> dict[str, Any]:
    """Runs `mpcify WORDS --format json`; its object, and where it comes from. seed: that of the model's training."""
    print("mpcify", *words, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "mpcify", *words, "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), **provenance(seed), "command": shlex.join(["mpcify", *map(portable, words)])}


def keep(result: dict[str, Any], path: Path | None) -> None:
    """Writes a result with its format, or prints it if there is no path."""
    text = json.dumps({"format": 1, **result}, indent=1) + "\n"
    if path:
        write_whole(path, text)
    else:
        print(text)


def stage(path: Path, *words: str, seed: int = 0) -> None:
    """Runs a verb and keeps what it prints, unless it is there."""
    if not path.is_file():
        write_whole(path, json.dumps(verb(*words, seed=seed), indent=1) + "\n")
