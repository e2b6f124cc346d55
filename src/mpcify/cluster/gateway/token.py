"""Who may ask: whoever can read the token's file."""

import re
import secrets
from pathlib import Path

from mpcify.cluster.keys import read_file, refuse
from mpcify.cluster.thin.config import TOKENS
from mpcify.files import write_whole

NAME, DESK = "gateway-token", "desk-token"  # of its file in a deployed folder: the client's, the owner's
FORM = re.compile(r"[A-Za-z0-9_-]{32,512}")
BYTES = 32
NEW = "remove what is there, and start the gateway: it makes a new one"
REMEDIES = {
    DESK: f"remove what is there, and start party serve: it makes a new one, for thin clients' {TOKENS['owner']}",
    TOKENS["delegate"]: f"copy the delegate's {NAME} there",
    TOKENS["owner"]: f"copy the owner's {DESK} there",
}


def token_in(path: Path) -> str:
    """The token in a file, which is made, for its owner's eyes alone, if it is not there.

    Raises MPC-702 for a file that others may read or that holds no token of 32 to 512 URL-safe characters, MPC-109 if
    it cannot be made.
    """
    try:
        path.stat()
    except FileNotFoundError:
        make_token(path)
    except OSError:
        pass  # whoever reads it says why not
    return read_token(path)


def make_token(*paths: Path) -> None:
    """Writes a new token to files, each for its owner's eyes alone. Raises MPC-109."""
    token = secrets.token_urlsafe(BYTES) + "\n"
    for path in paths:
        write_whole(path, token, mode=0o600)


def read_token(path: Path) -> str:
    """The token in a file. Raises MPC-702 as `token_in`, and for a file that is not there."""
    remedy = REMEDIES.get(path.name, NEW)
    token = read_file(path, secret=True, remedy=remedy).decode("ascii", "replace").strip()
    if not FORM.fullmatch(token):
        refuse(path, "it holds no token of 32 or more letters, digits, - and _", remedy)
    return token
