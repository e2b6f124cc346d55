"""The token's file."""

import os
import stat
from pathlib import Path

import pytest

from mpcify.cluster.gateway.token import DESK, NAME, read_token, token_in
from mpcify.errors import MpcifyError
from tests.locked import locked


def test_a_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway-token"
    token = token_in(path)
    assert len(token) == 43  # 256 bits in base64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_in(path) == token
    assert token_in(tmp_path / "another") != token


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "gateway-token"
    token_in(path)
    path.chmod(mode)
    with pytest.raises(MpcifyError, match=r"MPC-702 .* chmod 600"):
        token_in(path)


@pytest.mark.parametrize("content", ["", "short", "a token with spaces, although it is long enough", "ü" * 40])
def test_what_is_no_token_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gateway-token"
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(MpcifyError, match="MPC-702") as found:
        token_in(path)
    assert not content or content not in str(found.value)


def test_a_folder_is_no_token(tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match="MPC-702"):
        token_in(tmp_path)


def test_a_token_that_one_may_not_look_at_is_named(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(MpcifyError, match=r"MPC-702 .*Permission denied.* as the user"):
        token_in(tmp_path / NAME)


@pytest.mark.parametrize("file", ["/dev/zero", "pipe", "large"])
def test_what_is_no_ordinary_file_is_no_token_and_not_waited_for(tmp_path: Path, file: str) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "large").touch(0o600)
    os.truncate(tmp_path / "large", 1 << 40)
    with pytest.raises(MpcifyError, match=r"MPC-702 .*no ordinary file"):
        read_token(tmp_path / file)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        (NAME, "start the gateway: it makes a new one"),
        (DESK, "start party serve: it makes a new one, for thin clients' token-owner"),
        ("token-delegate", "copy the delegate's gateway-token there"),
        ("token-owner", "copy the owner's desk-token there"),
    ],
)
def test_each_token_has_a_remedy_of_its_own(tmp_path: Path, name: str, remedy: str) -> None:
    for content in (None, "short"):
        if content:
            (tmp_path / name).touch(0o600)
            (tmp_path / name).write_text(content)
        with pytest.raises(MpcifyError, match=f"MPC-702 .*Do this: .*{remedy}"):
            read_token(tmp_path / name)
