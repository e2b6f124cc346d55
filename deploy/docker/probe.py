"""A container's health check: asks /live where the folder's cluster.toml says. Exit code 0 if the party lives."""

import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 5


def lives(folder: Path) -> bool:
    """Whether the party that runs from a folder answers that it lives."""
    address = tomllib.loads((folder / "cluster.toml").read_text(encoding="utf-8"))["health"]["address"]
    address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{address}/live", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(0 if lives(Path(sys.argv[1])) else 1)
