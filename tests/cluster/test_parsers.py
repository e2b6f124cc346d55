"""Whatever bytes come from a peer, or from a file that people edit: a value that is right, or a numbered error."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.cluster.authority import create_kits, requested
from mpcify.cluster.certificates import new_key, request_pem
from mpcify.cluster.config import ClusterConfig, config_of, config_text, read_config
from mpcify.cluster.handshake import DIGEST, NONCE, shake_hands
from mpcify.cluster.keys import load_key, read_certificates
from mpcify.cluster.orders import WORDS, Order, costs_from_bytes, costs_to_bytes, is_cost
from mpcify.engines.cost import Cost
from mpcify.errors import MpcifyError
from mpcify.network.memory import connect

calm = settings(deadline=None, max_examples=100)
NAMES = st.sampled_from(["", "do", "length"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "do", "length"]), inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())
GOOD: dict[str, Any] = {
    "format": 1,
    "role": "owner",
    "lengths": [32, 64],
    "batch": 1,
    "parties": {"owner": "owner.example:7000", "helper": "[::1]:7001"},
    "engine": {"engine": "spu", "protocol": "aby3"},
}


@calm
@given(MESSAGES)
def test_any_order(message: bytes) -> None:
    try:
        order = Order.from_bytes(message, "client")
    except MpcifyError as error:
        assert str(error).startswith("MPC-707 party client: ")  # noqa: PT017
    else:
        assert order.do in WORDS
        assert type(order.length) is int
        assert order.length >= 0


@calm
@given(MESSAGES | st.lists(VALUES, max_size=4).map(lambda values: json.dumps({"": values}).encode()))
def test_any_costs(message: bytes) -> None:
    try:
        costs = costs_from_bytes(message, "owner", frozenset({""}))
    except MpcifyError as error:
        assert str(error).startswith("MPC-707 party owner: ")  # noqa: PT017
    else:
        assert is_cost([costs[""].seconds, costs[""].bytes, costs[""].rounds])


def test_costs_come_as_they_were_sent_with_what_was_done_ahead() -> None:
    ahead = Cost(2.5, 60, 3, {"dealer": 60})
    sent = {"up": Cost(3.5, 90, 7, {"dealer": 90}, offline=ahead), "down": Cost(0.5, 2, 1, {"dealer": 2})}
    assert costs_from_bytes(costs_to_bytes(sent), "dealer", frozenset(sent)) == sent


@pytest.mark.parametrize(
    "ahead",
    [[2.5, 60], [3.6, 60, 3], [2.5, 91, 3], [2.5, 60, 8], [2.5, 60, 3, [1, 1, 1]], [-1, 60, 3], [], None, 3],
    ids=str,
)
def test_a_part_that_is_none_of_the_whole_is_refused(ahead: Any) -> None:
    message = json.dumps({"": [3.5, 90, 7, ahead]}).encode()
    with pytest.raises(MpcifyError, match="MPC-707 party dealer: it sent costs that there are not"):
        costs_from_bytes(message, "dealer", frozenset({""}))


@calm
@given(hello=st.binary(max_size=3 * DIGEST) | st.binary(min_size=NONCE + DIGEST, max_size=NONCE + DIGEST))
def test_any_hello(hello: bytes) -> None:
    links = connect(("owner", "client"), timeout=1)
    links["client"].send("owner", "hello", hello)
    links["client"].send("owner", "session", bytes(DIGEST))
    with pytest.raises(MpcifyError) as raised:
        shake_hands(links["owner"], {"graphs": 1})
    assert raised.value.code == (705 if len(hello) == NONCE + DIGEST else 707)


@calm
@given(field=st.sampled_from([*GOOD, "timeouts", "limits", "health", "listen", "more"]), value=VALUES)
def test_any_value_of_a_config(field: str, value: Any) -> None:
    try:
        config = config_of({**GOOD, field: value}, "cluster.toml")
    except MpcifyError as error:
        assert str(error).startswith("MPC-701 cluster.toml: ")  # noqa: PT017
    else:
        assert isinstance(config, ClusterConfig)


READERS: dict[str, Callable[[Path], object]] = {
    "config": read_config,
    "key": lambda path: load_key(path.read_bytes(), path),
    "certificates": read_certificates,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A config, a key and certificates, as files hold them."""
    folder = tmp_path_factory.mktemp("seeds")
    (kit,) = create_kits(folder / "kits", ["owner"])
    text = config_text(config_of(GOOD, "cluster.toml")).encode()
    return {"config": text, "key": kit.key, "certificates": kit.certificate + kit.authority}


@calm
@given(data=st.data())
def test_a_file_with_other_bytes_is_refused_by_number_or_read(
    seeds: dict[str, bytes], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    which = data.draw(st.sampled_from([*seeds]))
    seed = seeds[which]
    place = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(place, min(len(seed), place + 40)))
    content = seed[:place] + data.draw(st.binary(max_size=20) | st.text(max_size=8).map(str.encode)) + seed[end:]
    path = tmp_path_factory.getbasetemp() / "altered"
    path.write_bytes(content)
    number = "MPC-701" if which == "config" else "MPC-702"
    try:
        READERS[which](path)
    except MpcifyError as error:
        assert str(error).startswith(number)  # noqa: PT017
        assert "PRIVATE" not in str(error)  # noqa: PT017


def pem(kind: str, content: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode()}-----END {kind}-----\n".encode()


def test_a_certificate_or_request_of_a_version_that_there_is_not_is_refused_by_number(
    seeds: dict[str, bytes], tmp_path: Path
) -> None:
    """cryptography raises an error of its own for it, which is no ValueError."""
    certificate = x509.load_pem_x509_certificates(seeds["certificates"])[0].public_bytes(Encoding.DER)
    request = x509.load_pem_x509_csr(request_pem(new_key(), "owner")).public_bytes(Encoding.DER)
    path = tmp_path / "altered.pem"
    path.write_bytes(pem("CERTIFICATE", certificate.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1)))
    with pytest.raises(MpcifyError, match=r"MPC-702 .*no certificate that can be read"):
        read_certificates(path)
    path.write_bytes(pem("CERTIFICATE REQUEST", request.replace(b"\x02\x01\x00", b"\x02\x01\x09", 1)))
    with pytest.raises(MpcifyError, match=r"MPC-702 .*no request that can be read"):
        requested(path, "owner")
