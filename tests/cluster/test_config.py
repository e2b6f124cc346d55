"""`cluster.toml`: short, edited by people, and refused by the name of the field that is wrong."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import ClusterConfig, Limits, Timeouts, config_of, config_text, read_config
from mpcify.engines import config_named
from mpcify.errors import MpcifyError

LEAST = """
format = 1
role = "owner"
lengths = [32, 64]
batch = 1
[parties]
owner = "owner.example:7000"
helper = "[2001:db8::1]:7000"
[engine]
engine = "spu"
"""


def config(**fields: Any) -> ClusterConfig:
    """The config of LEAST, with other fields."""
    return config_of({**tomllib.loads(LEAST), **fields}, "cluster.toml")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(LEAST)
    return path


def test_what_is_left_out_has_its_default(path: Path) -> None:
    found = read_config(path)
    assert found.parties == {"owner": Address("owner.example", 7000), "helper": Address("2001:db8::1", 7000)}
    assert (found.role, found.lengths, found.batch) == ("owner", (32, 64), 1)
    assert found.engine == config_named("spu")
    assert (found.timeouts, found.limits) == (Timeouts(connect=60, message=600, idle=3600), Limits(queue=16))
    assert (found.health.address, found.listen.address) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"engine": {"engine": "spu", "protocol": "cheetah", "ring": 64}, "parties": {"owner": "owner:1"}},
        {"engine": {"engine": "spu", "protocol": "semi2k", "trust_first_party": True}, "parties": {"owner": "o:1"}},
        {"timeouts": {"connect": 1, "message": 0.25, "idle": 86400}, "limits": {"queue": 0}, "batch": 8},
        {"health": {"address": "127.0.0.1:9000"}, "listen": {"address": "0.0.0.0:7000"}, "lengths": [16]},
        {
            "role": "dealer",
            "engine": {"engine": "ring", "ring": 48, "ahead": 4, "inputs": "delegated"},
            "parties": {"owner": "o:1", "dealer": "d:1"},
        },
    ],
    ids=str,
)
def test_a_file_says_what_its_config_says(fields: dict[str, Any], path: Path) -> None:
    made = config(**fields)
    path.write_text(config_text(made))
    assert read_config(path) == made


def test_every_field_of_a_written_file_has_a_word_for_whoever_edits_it() -> None:
    text = config_text(config(health={"address": "127.0.0.1:9000"}))
    lines = [line for line in text.splitlines() if " = " in line]
    bare = {line.split(" = ")[0] for line in lines if "  # " not in line}
    assert bare == {"format", "role", "owner", "helper", "engine"}
    assert max(map(len, text.splitlines())) <= 120


WRONG: dict[str, tuple[str, str, str]] = {
    "unknown field": ("batch = 1", "batch = 1\nbatches = 2", "batches: there is no such field"),
    "unknown section": ("[engine]", "[tls]\n[engine]", "tls: there is no such field"),
    "unknown field of a section": ("[engine]", "[timeouts]\nconect = 1\n[engine]", "timeouts.conect: there is no such"),
    "missing": ("batch = 1", "", "batch: it is missing"),
    "missing section": ("[engine]\nengine", "[limits]\nqueue = 1 #", "engine: it is missing"),
    "no format": ("format = 1", "", "format: it is missing"),
    "another format": ("format = 1", "format = 2", "format: it should be 1"),
    "another role": ('"owner"', '"other"', "role: it should be 'client', 'owner', 'helper' or 'dealer'"),
    "another engine's role": ('"owner"', '"dealer"', "role: the engine's parties are client, owner, helper"),
    "a text for a number": ("batch = 1", 'batch = "1"', "batch: it should be a valid integer"),
    "truth for a number": ("batch = 1", "batch = true", "batch: it should be a valid integer"),
    "a float for a length": ("[32, 64]", "[32.0]", "lengths.0: it should be a valid integer"),
    "truth for seconds": (
        "[engine]",
        "[timeouts]\nidle = true\n[engine]",
        "timeouts.idle: it should be a valid number",
    ),
    "no batch": ("batch = 1", "batch = 0", "batch: it should be greater than or equal to 1"),
    "no length": ("[32, 64]", "[]", "lengths: it is empty"),
    "one length": ("[32, 64]", "32", "lengths: it is no list"),
    "no section": ("batch = 1", "batch = 1\ntimeouts = 5", "timeouts: it is no table"),
    "falling lengths": ("[32, 64]", "[64, 32]", "lengths: they do not stand in rising order"),
    "a length twice": ("[32, 64]", "[32, 32]", "lengths: they do not stand in rising order"),
    "no time": ("[engine]", "[timeouts]\nconnect = 0\n[engine]", "timeouts.connect: it should be greater than 0"),
    "endless time": ("[engine]", "[timeouts]\nidle = inf\n[engine]", "timeouts.idle: it should be"),
    "no number of seconds": ("[engine]", "[timeouts]\nidle = nan\n[engine]", "timeouts.idle: it should be"),
    "a negative queue": ("[engine]", "[limits]\nqueue = -1\n[engine]", "limits.queue: it should be greater"),
    "no port": ("owner.example:7000", "owner.example", "parties.owner: it is no HOST:PORT"),
    "a port too high": ("owner.example:7000", "owner.example:70000", "parties.owner: its port"),
    "an address of everywhere": ("owner.example:7000", "0.0.0.0:7000", "parties.owner: peers cannot dial that"),
    "an address of nowhere": ("owner.example:7000", "", "parties.owner: peers cannot dial that"),
    "health where it listens": (
        "[engine]",
        '[listen]\naddress = "0.0.0.0:7000"\n[health]\naddress = "localhost:7000"\n[engine]',
        "health: localhost:7000 is under [listen] too",
    ),
    "the same address": ("[2001:db8::1]", "OWNER.example", "parties: two have the same address"),
    "a party too few": ("helper = ", "# ", "parties: it has owner, and the engine needs owner, helper"),
    "a party too many": ("helper = ", 'dealer = "d:1"\nhelper = ', "parties: it has dealer, helper, owner, and the"),
    "an address of the client": ("helper = ", 'client = "c:1"\nhelper = ', "parties: it has client, helper, owner"),
    "a role of no party": (
        '"spu"',
        '"spu"\nprotocol = "cheetah"',
        "parties: it has helper, owner, and the engine needs",
    ),
    "an engine without parties": ('"spu"', '"plain"', "engine: plain has no parties"),
    "an engine of integers without parties": ('"spu"', '"fixed"', "engine: fixed has no parties"),
    "no engine": ('engine = "spu"', "", "engine: it names no engine"),
    "an unknown engine": ('"spu"', '"sup"', "engine: engine sup: there is no such engine (use one of"),
    "a number for an engine": ('"spu"', "3", "engine: engine 3: there is no such engine"),
    "an unknown setting": ('"spu"', '"spu"\nprotocl = "aby3"', "engine: the engine spu has no setting 'protocl'"),
    "an unknown protocol": ('"spu"', '"spu"\nprotocol = "abc"', "engine: protocol abc: SPU has no such protocol"),
    "a value that a setting does not have": (
        '"spu"',
        '"ring"\nahead = 17',
        "engine: ahead 17: so many sets of randomness do not wait (use ahead 0 to 16)",
    ),
    "a setting of another type": ('"spu"', '"spu"\nring = "64"', "engine: ring '64': there is no such choice"),
    "health of no address": ("[engine]", "[health]\naddress = 'all'\n[engine]", "health.address: it is no HOST:PORT"),
    "the client listens": ('role = "owner"', 'role = "client"\nlisten = {address = "[::]:1"}', "listen: nobody dials"),
    "no TOML": ("batch = 1", "batch = ", "it is not TOML: "),
    "a field twice": ("batch = 1", "batch = 1\nbatch = 1", "it is not TOML: "),
}


@pytest.mark.parametrize("old, new, words", WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_is_refused_by_its_field(old: str, new: str, words: str, path: Path) -> None:
    assert old in LEAST
    path.write_text(LEAST.replace(old, new, 1))
    with pytest.raises(MpcifyError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"MPC-701 {path}: {words}")
    assert not re.search(r"pydantic|errors?\.|input_|\n", str(caught.value))


def test_the_helper_is_no_party_of_a_protocol_of_two() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-701 .*role: the engine's parties are client, owner"):
        config(role="helper", parties={"owner": "o:1"}, engine={"engine": "spu", "protocol": "cheetah"})


@pytest.mark.parametrize("content, words", [(b"\xff", "it is not UTF-8"), (b"#" * ((1 << 20) + 1), "it is larger")])
def test_a_file_that_is_no_text(content: bytes, words: str, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(MpcifyError, match=rf"MPC-701 .*{words}"):
        read_config(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-701 .*there is no such file"):
        read_config(tmp_path / "cluster.toml")
    with pytest.raises(
        MpcifyError, match=r"MPC-701 .*it cannot be read \(Is a directory\)\. Do this: write the folder"
    ):
        read_config(tmp_path)


def test_a_file_of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(MpcifyError, match=r"cannot be read \(Permission denied\)\. Do this: run as the user"):
        read_config(path)


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MpcifyError, match="MPC-701"):
        read_config(path)
