"""CrypTen's environment: apart from ours, made of pinned packages the first time that it is needed."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from mpcify.files import write_whole

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "build" / "peers"
PINS = (HERE / "requirements.txt", HERE / "requirements-crypten.txt")  # with what they require; without


def crypten_python(folder: Path = FOLDER) -> Path:
    """The Python of the environment. A few minutes and 1 GB the first time, and when a pin has changed."""
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in PINS)).hexdigest() + "\n"
    if not (ready.is_file() and ready.read_text(encoding="utf-8") == wanted):
        print(f"making {folder}: a few minutes", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for path, options in zip(PINS, ((), ("--no-deps",)), strict=True):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *options, "--requirement", path], check=True)
        write_whole(ready, wanted)
    return python
