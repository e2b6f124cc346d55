"""Who may ask: whoever can read the token's file."""

import re
import secrets
import stat
from pathlib import Path

from mpcify.errors import MpcifyError
from mpcify.files import write_whole

NAME, DESK = "gateway-token", "desk-token"  # of its file in a deployed folder: the client's, the owner's
FORM = re.compile(r"[A-Za-z0-9_-]{32,512}")
PUBLIC = stat.S_IRWXG | stat.S_IRWXO
BYTES = 32


def token_in(path: Path) -> str:
    """The token in a file, which is made, for its owner's eyes alone, if it is not there.

    Raises MPC-702 for a file that others may read or that holds no token of 32 to 512 URL-safe characters, MPC-109 if
    it cannot be made.
    """
    if not path.exists():
        make_token(path)
    return read_token(path)


def make_token(*paths: Path) -> None:
    """Writes a new token to files, each for its owner's eyes alone. Raises MPC-109."""
    token = secrets.token_urlsafe(BYTES) + "\n"
    for path in paths:
        write_whole(path, token, mode=0o600)


def read_token(path: Path) -> str:
    """The token in a file. Raises MPC-702 as `token_in`, and for a file that is not there."""
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as problem:
        raise unusable(path, problem.strerror or "it cannot be read", "let the gateway's user read it") from None
    if not stat.S_ISREG(mode) or mode & PUBLIC:
        raise unusable(path, "others than its owner may use it", f"chmod 600 {path}")
    token = content.decode("ascii", "replace").strip()
    if not FORM.fullmatch(token):
        what = "it holds no token of 32 or more letters, digits, - and _"
        raise unusable(path, what, "remove it: the gateway makes a new one")
    return token


def unusable(path: Path, what: str, remedy: str) -> MpcifyError:
    """The error for a token's file."""
    return MpcifyError(702, str(path), what, remedy)
