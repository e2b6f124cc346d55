"""A thin client's folder and its way to the two places: what is written, what is refused, and what a place may send."""

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpcify
from mpcify.cluster.config import read_config
from mpcify.cluster.deploy import write_deployment
from mpcify.cluster.deployed import serve
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.halves import COST, cost_from
from mpcify.cluster.thin.config import Url, read_thin, thin_text
from mpcify.engines.config import ENGINES
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError
from tests.cluster.delegated.delegates import Delegated
from tests.cluster.deployments import deploy
from tests.cluster.trusting import DelegatedConfig, TrustingConfig

ADDRESSES = {"owner": "owner.example:7000", "dealer": "dealer.example:7000"}
URLS = {"delegate": "https://delegate.example", "owner": "https://owner.example:8443/mpcify"}
INPUTS = {"embeddings": np.zeros((2, 4, 6), np.float32)}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for config in (DelegatedConfig, TrustingConfig):
        monkeypatch.setitem(ENGINES, config.name, config)


@pytest.fixture
def out(exported: Path, made_kits: Path, tmp_path: Path) -> Path:
    write_deployment(exported, made_kits, tmp_path / "out", DelegatedConfig(), ADDRESSES, urls=URLS)
    return tmp_path / "out"


def test_a_thin_client_gets_what_the_client_has_of_the_model_and_a_token_for_each_place(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {"client", "owner", "dealer", "thin"}
    found = read_thin(out / "thin").config
    assert (str(found.delegate), str(found.owner)) == (
        "https://delegate.example:443",
        "https://owner.example:8443/mpcify",
    )
    assert (found.lengths, found.batch, found.engine) == ((4, 8), 2, DelegatedConfig())
    files = {path.name: path.read_bytes() for path in (out / "thin" / "exported").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (out / "client" / "exported").iterdir()}
    tokens = {}
    for thin, place in {"token-delegate": "client/gateway-token", "token-owner": "owner/desk-token"}.items():
        assert (out / "thin" / thin).read_text() == (tokens.setdefault(thin, (out / place).read_text()))
        for path in (out / "thin" / thin, out / place):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({*tokens.values()}) == 2
    assert {path.name for path in (out / "thin").iterdir()} == {"thin.toml", "exported", *tokens}


def test_the_owner_alone_has_a_desk(out: Path) -> None:
    desks = {role: read_config(out / role / "cluster.toml").desk.address for role in ("client", "owner", "dealer")}
    assert {role: str(desk) for role, desk in desks.items() if desk} == {"owner": "127.0.0.1:8001"}


def test_a_desk_listens_where_thin_clients_ask_if_no_proxy_is_between(
    exported: Path, made_kits: Path, tmp_path: Path
) -> None:
    urls = {"owner": "http://127.0.0.1:9001"}
    write_deployment(exported, made_kits, tmp_path / "out", DelegatedConfig(), ADDRESSES, urls=urls)
    assert str(read_config(tmp_path / "out" / "owner" / "cluster.toml").desk.address) == "127.0.0.1:9001"
    assert str(read_thin(tmp_path / "out" / "thin").config.delegate) == "http://127.0.0.1:8000"


def test_a_cluster_whose_client_knows_the_inputs_has_neither(exported: Path, made_kits: Path, tmp_path: Path) -> None:
    addresses = {"owner": "o:1", "helper": "h:1"}
    write_deployment(exported, made_kits, tmp_path / "out", TrustingConfig(), addresses)
    assert not (tmp_path / "out" / "thin").exists()
    assert "[desk]" not in (tmp_path / "out" / "owner" / "cluster.toml").read_text()
    with pytest.raises(MpcifyError, match=r"MPC-701 .*no thin clients"):
        write_deployment(exported, made_kits, tmp_path / "other", TrustingConfig(), addresses, urls=URLS)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("urls", "what"),
    [
        ({"delegate": "http://delegate.example"}, "delegate: http leads nowhere but to this machine"),
        ({"delegate": "ftp://delegate.example"}, "delegate: it is no https"),
        ({"delegate": "delegate.example"}, "delegate: it is no https"),
        ({"delegate": "https://"}, "delegate: it is no https"),
        ({"delegate": "https://a:b@delegate.example"}, "delegate: it is no https"),
        ({"delegate": "https://delegate.example?x=1"}, "delegate: it is no https"),
        ({"delegate": "https://delegate.example:99999"}, "delegate: "),
        ({"delegate": "https://delegate.example/\r\nX: 1"}, "delegate: it is no URL"),
        ({"delegate": "https://delegate.example/a b"}, "delegate: it is no URL"),
        ({"owner": "https://owner.example:0"}, "owner: its port"),
        ({"delegate": "https://-"}, "delegate: its host"),
        ({"delegate": URLS["owner"]}, "owner: it is the delegate's"),
    ],
    ids=str,
)
def test_a_place_is_reached_over_tls_or_on_this_machine(
    exported: Path, made_kits: Path, tmp_path: Path, urls: dict[str, str], what: str
) -> None:
    with pytest.raises(MpcifyError, match=f"MPC-701 thin client: {what}"):
        write_deployment(exported, made_kits, tmp_path / "out", DelegatedConfig(), ADDRESSES, urls={**URLS, **urls})
    assert not (tmp_path / "out").exists()


def test_the_desk_is_not_where_the_owner_listens(exported: Path, made_kits: Path, tmp_path: Path) -> None:
    urls, addresses = {"owner": "http://127.0.0.1:7001"}, {**ADDRESSES, "owner": "127.0.0.1:7001"}
    with pytest.raises(MpcifyError, match=r"MPC-701 party owner: desk: 127.0.0.1:7001 is under \[parties\] too"):
        write_deployment(exported, made_kits, tmp_path / "out", DelegatedConfig(), addresses, urls=urls)


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "https://host.example:443/a", "http://[::1]:80"])
def test_a_url_reads_as_it_is_written(text: str) -> None:
    assert str(Url.parse(text)) == text


def test_a_config_reads_as_it_was_written(out: Path) -> None:
    before = (out / "thin" / "thin.toml").read_text()
    assert thin_text(read_thin(out / "thin").config) == before


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("batch = 2", "batch = 1", "batch: the model was exported for 2"),
        ("lengths = [4, 8]", "lengths = [8, 4]", "lengths: they do not stand in rising order"),
        ("lengths = [4, 8]", "lengths = [4, 16]", "lengths: the exported model has 4, 8"),
        ("format = 1", "format = 2", "format"),
        ("format = 1", "format = 1\ncolour = 1", "colour: there is no such field"),
        ('engine = "delegated"', 'engine = "trusting"', "engine: one of its parties knows the inputs"),
        ("connect = 10.0", "connect = 0.0", "timeouts.connect"),
    ],
)
def test_a_field_that_is_wrong_is_named(out: Path, old: str, new: str, what: str) -> None:
    path = out / "thin" / "thin.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(MpcifyError, match=f"MPC-701 .*{what}"):
        mpcify.connect(out / "thin")


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda file: file.chmod(0o644), "MPC-702"),
        (lambda file: file.unlink(), "MPC-702"),
        (lambda file: file.write_text("short"), "MPC-702"),
    ],
    ids=["others may read it", "it is not there", "it is none"],
)
def test_a_token_that_cannot_be_used_is_refused(out: Path, change: Callable[[Path], object], number: str) -> None:
    change(out / "thin" / "token-owner")
    with pytest.raises(MpcifyError, match=f"{number} .*token-owner"):
        mpcify.connect(out / "thin")


def test_each_folder_is_for_its_own_purpose(out: Path) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-701 .*a delegate's, which knows no inputs"):
        mpcify.connect(out / "client")
    for work in (serve, read_deployment):
        with pytest.raises(MpcifyError, match=r"MPC-701 .*a thin client's"):
            work(out / "thin")


@pytest.mark.parametrize("address", ["0.0.0.0:8001", "10.0.0.1:8001", "owner.example:8001", ""])
def test_a_desk_is_on_the_loopback_and_is_there(out: Path, address: str) -> None:
    path = out / "owner" / "cluster.toml"
    path.write_text(path.read_text().replace("127.0.0.1:8001", address))
    with pytest.raises(MpcifyError, match=r"MPC-701 .*desk"):
        read_config(path)


def test_a_desk_is_the_owners_alone(out: Path) -> None:
    path = out / "dealer" / "cluster.toml"
    path.write_text(path.read_text() + '\n[desk]\naddress = "127.0.0.1:8001"\n')
    with pytest.raises(MpcifyError, match=r"MPC-701 .*desk: nobody comes there"):
        read_config(path)


def test_a_desk_whose_port_is_taken_is_named(exported: Path, made_kits: Path, tmp_path: Path) -> None:
    out = deploy(exported, made_kits, tmp_path / "out", DelegatedConfig())
    desk = read_config(out / "owner" / "cluster.toml").desk.address
    assert desk is not None
    with socket.create_server((desk.host, desk.port)), pytest.raises(MpcifyError, match=f"MPC-701 desk: .*{desk.port}"):
        serve(out / "owner")


@contextmanager
def answering(content: bytes) -> Iterator[int]:
    """Whoever asks at this port is sent these bytes, once a request's head came."""

    def answer() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.recv(1 << 16)
                line.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def http(status: int, body: bytes, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


def error(**values: Any) -> bytes:
    return json.dumps({"format": 1, "error": {"where": "here", "what": "so", "remedy": "do", **values}}).encode()


GOOD = json.dumps(Cost(1.0, 2, 3, {"owner": 2}).to_json())


COSTS = [
    (http(200, bytes(16)), "MPC-707"),
    (http(200, bytes(16), **{COST: "{}"}), "MPC-707"),
    (http(200, bytes(16), **{COST: GOOD.replace("1.0", "-1.0")}), "MPC-707"),
    (http(200, bytes(16), **{COST: GOOD.replace("owner", "nobody")}), "MPC-707"),
]


@pytest.mark.parametrize(("sent", "number"), COSTS)
def test_a_delegate_that_does_not_say_what_a_request_cost_is_refused(exported: Path, sent: bytes, number: str) -> None:
    with answering(sent) as bad, answering(http(200, bytes(16))) as good:
        connection = thin_to(exported, delegate=bad, owner=good)
        with pytest.raises(MpcifyError, match=rf"{number} delegate: .*cost"):
            connection.ask(4, INPUTS)


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        (b"", "MPC-706"),
        (b"hello\r\n\r\n", "MPC-706"),
        (http(200, bytes(16), **{COST: GOOD})[:-1], "MPC-706"),
        (http(200, bytes(15), **{COST: GOOD}), "MPC-707"),
        (http(200, bytes(17), **{COST: GOOD}), "MPC-707"),
        (http(302, b"", Location="http://evil.example"), "MPC-707"),
        (http(502, b"<html>a proxy's"), "MPC-707"),
        (http(500, error(code="MPC-999")), "MPC-707"),
        (http(500, error(code=711)), "MPC-707"),
        (http(500, json.dumps({"error": []}).encode()), "MPC-707"),
        (http(500, b"[" * 50_000), "MPC-707"),
        (http(503, error(code="MPC-708")), "MPC-708"),
        (http(409, error(code="MPC-711", what="\x1b[2J" + "x" * 10_000)), "MPC-711"),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.parametrize("name", ["delegate", "owner"])
def test_whatever_a_place_sends_is_an_error_with_a_number(exported: Path, name: str, sent: bytes, number: str) -> None:
    """One place is hostile; the other answers as it should."""
    with answering(sent) as bad, answering(http(200, bytes(16), **{COST: GOOD})) as good:
        connection = thin_to(exported, **{"delegate": good, "owner": good, name: bad})
        with pytest.raises(MpcifyError, match=number) as raised:
            connection.ask(4, INPUTS)
    assert len(str(raised.value)) < 800
    assert "\x1b" not in str(raised.value)


def thin_to(exported: Path, **ports: int) -> Any:
    """A thin client's end whose places listen at these ports."""
    from types import SimpleNamespace

    found = Delegated(exported)
    found.delegate, found.owner = (SimpleNamespace(port=ports[name]) for name in ("delegate", "owner"))  # type: ignore[assignment]
    return found.thin(answer=5.0)


def test_a_place_that_is_not_there_is_named(exported: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(MpcifyError, match="MPC-703 delegate: it is not reached"):
        thin_to(exported, delegate=port, owner=port).ready()


def test_a_cost_reads_as_it_was_written_and_nothing_else_does() -> None:
    cost = Cost(3.0, 5, 4, {"client": 2, "owner": 3}, offline=Cost(1.0, 2, 1, {"client": 2}))
    assert cost_from(json.dumps(cost.to_json()), ("client", "owner")) == cost
    for text in ("", "[]", "null", "1", "{", "[" * 100_000, GOOD.replace('"rounds": 3', '"rounds": true')):
        with pytest.raises(ValueError):
            cost_from(text, ("client", "owner"))


@pytest.mark.parametrize(
    "more",
    [
        {"setup": 5},
        {"setup": {"seconds": "a", "bytes": [1]}},
        {"setup": json.loads(GOOD)},
        {"other": 1},
        {"offline": json.loads(GOOD)},
        {"online": json.loads(GOOD), "offline": {**json.loads(GOOD), "setup": []}},
        {"online": json.loads(GOOD), "offline": {**json.loads(GOOD), "offline": json.loads(GOOD)}},
        {"online": 5, "offline": 5},
        {"seconds": 10**400},
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_cost_has_no_field_but_its_own_and_two_parts_that_have_none(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no cost"):
        cost_from(json.dumps({**json.loads(GOOD), **more}), ("client", "owner"))


def test_a_cost_that_is_nested_without_end_is_none() -> None:
    with pytest.raises(ValueError, match="no cost"):
        cost_from(GOOD[:-1] + ', "setup": ' + '{"setup": ' * 600 + "1" + "}" * 601, ("client", "owner"))
