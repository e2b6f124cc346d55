"""The doctor: each broken thing is found, named and comes with a remedy, and hides nothing else."""

import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mpcify.cli.main import run
from mpcify.cluster import certificates, party
from mpcify.cluster.addresses import free_addresses
from mpcify.cluster.authority import create_kits, read_issuer
from mpcify.cluster.certificates import issue
from mpcify.cluster.client import Connection
from mpcify.cluster.deployed import network_of, programs_of
from mpcify.cluster.deployment import read_deployment
from mpcify.cluster.doctor import machine, peers
from mpcify.cluster.doctor.doctor import Diagnosis, examine
from mpcify.cluster.doctor.findings import Finding, Findings
from mpcify.cluster.keys import as_pem, load_key, now
from mpcify.engines.config import ENGINES
from mpcify.errors import MpcifyError
from mpcify.network import dial
from tests.cluster.deployments import CountedConfig, all_serving, deploy, edit, serving

Break = Callable[[Path], object]
ROLES = ("client", "owner", "helper")


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "trusting", CountedConfig)
    monkeypatch.setattr(party, "PULSE", 0.05)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "processors", lambda: 4.0)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "kits"
    create_kits(folder, ROLES)
    return folder


@pytest.fixture
def out(exported: Path, kits: Path, tmp_path: Path) -> Path:
    """All parties' folders."""
    return deploy(exported, kits, tmp_path / "out")


def wrong(found: Diagnosis) -> dict[str, Finding]:
    return {each.check: each for each in found.findings if not each.ok}


def of(found: Diagnosis, check: str) -> Finding:
    (finding,) = (each for each in found.findings if each.check == check)
    return finding


def test_a_cluster_that_works_has_nothing_wrong_at_any_party(out: Path) -> None:
    with all_serving(out):
        found = {role: examine(out / role) for role in ROLES}
    assert {role: each.ok for role, each in found.items()} == dict.fromkeys(ROLES, True)
    assert [each for role in ROLES for each in found[role].findings if each.problem] == []
    assert "same graphs" in of(found["client"], "session").value
    for peer in ("owner", "helper"):
        assert "ms" in of(found["client"], f"{peer}: line").value
    assert "rounds" in of(found["client"], "request of 4").value
    assert "this party's service" in of(found["owner"], "listen").value
    assert of(found["owner"], "health").value.endswith("says: ok")
    assert of(found["helper"], "owner: service").value == "it serves"
    assert "they dial this party" in of(found["owner"], "peers").value


def test_addresses_at_which_nobody_listens_yet_are_free(out: Path) -> None:
    found = examine(out / "owner")
    assert found.ok
    assert of(found, "listen").value.endswith("is free")
    assert of(found, "health").value.endswith("is free")


def weights(folder: Path) -> Path:
    return folder / "exported" / "weights.safetensors"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def add_line(folder: Path) -> None:
    path = folder / "cluster.toml"
    path.write_text("colour = 1\n" + path.read_text())


def certificate_for(folder: Path, begins: timedelta, ends: timedelta) -> None:
    """Gives a kit a certificate that is good from and until then, by its own authority."""
    issuer = read_issuer(folder.parents[1] / "kits")
    key = load_key((folder / "kit" / "key.pem").read_bytes(), folder)
    made = issue(issuer, folder.name, key.public_key())
    builder = x509.CertificateBuilder(made.issuer, made.subject, made.public_key(), made.serial_number)
    builder = builder.not_valid_before(now() + begins).not_valid_after(now() + ends)
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    (folder / "kit" / "certificate.pem").write_bytes(as_pem([builder.sign(issuer.key, hashes.SHA256())]))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAY = timedelta(days=1)
OF_KIT = ("certificate", "peers")  # without a kit no peer is looked for
BROKEN: dict[str, tuple[Break, tuple[str, ...], str, str]] = {
    "no folder": (shutil.rmtree, ("folder",), "no such folder", "party init"),
    "empty": (empty, ("folder",), "no deployed folder", "party init"),
    "writable": (lambda owner: owner.chmod(0o777), ("permissions",), "everybody may change", "chmod o-w"),
    "no config": (
        lambda owner: (owner / "cluster.toml").unlink(),
        ("cluster.toml", "peers"),
        "no such file",
        "party init",
    ),
    "unknown field": (add_line, ("cluster.toml", "peers"), "colour: there is no such field", "correct it"),
    "length": (
        lambda owner: edit(owner, lengths=[4, 16]),
        ("cluster.toml and exported",),
        "has 4, 8, and not 16",
        "correct",
    ),
    "batch": (lambda owner: edit(owner, batch=3), ("cluster.toml and exported",), "exported for 2", "correct it"),
    "weights": (lambda owner: flip(weights(owner)), ("exported",), "not the file that", "once more what party init"),
    "graph": (lambda owner: flip(owner / "exported" / "graph-8.json"), ("exported",), "not the file", "once more"),
    "no weights": (lambda owner: weights(owner).unlink(), ("exported",), "no such file", "once more"),
    "stray": (
        lambda owner: shutil.copy(owner.parent / "client" / "exported" / "tokenizer.json", owner / "exported"),
        ("files of others",),
        "none of the owner's files",
        "delete it",
    ),
    "open weights": (lambda owner: weights(owner).chmod(0o644), ("files of others",), "others may read", "chmod 600"),
    "open key": (
        lambda owner: (owner / "kit" / "key.pem").chmod(0o644),
        ("key", "peers"),
        "others may read",
        "chmod 600",
    ),
    "no key": (lambda owner: (owner / "kit" / "key.pem").unlink(), ("key", "peers"), "no such file", "mpcify keys"),
    "other name": (
        lambda owner: shutil.copy(owner.parent / "helper" / "kit" / "certificate.pem", owner / "kit"),
        OF_KIT,
        "certificate of helper, not of owner",
        "put the kit of owner",
    ),
    "other key": (
        lambda owner: shutil.copy(owner.parent / "helper" / "kit" / "key.pem", owner / "kit"),
        ("kit", "peers"),
        "does not belong to",
        "files of one kit",
    ),
    "expired": (lambda owner: certificate_for(owner, -9 * DAY, -DAY), OF_KIT, "it expired on", "mpcify keys renew"),
    "too early": (
        lambda owner: certificate_for(owner, DAY, 9 * DAY),
        ("certificate", "clock", "peers"),
        "not valid before",
        "clock",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_has_the_checks_wrong_that_see_it_and_no_others(name: str, out: Path, kits: Path) -> None:
    breaks, checks, problem, remedy = BROKEN[name]
    shutil.copytree(kits, out.parent / "kits", dirs_exist_ok=True)
    breaks(out / "owner")
    found = wrong(examine(out / "owner"))
    assert tuple(found) == checks
    assert problem in found[checks[0]].problem
    assert remedy in found[checks[0]].remedy
    assert all(each.remedy for each in found.values())


def test_the_authority_of_another_cluster_is_found(out: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ["owner"])
    shutil.copy(tmp_path / "others" / "owner" / "authority.pem", out / "owner" / "kit")
    found = wrong(examine(out / "owner"))
    assert "does not vouch" in found["certificate"].problem
    assert "one authority" in found["certificate"].remedy


def test_several_broken_things_are_all_found(out: Path) -> None:
    owner = out / "owner"
    (owner / "kit" / "key.pem").chmod(0o644)
    flip(weights(owner))
    add_line(owner)
    assert {"key", "exported", "cluster.toml"} < wrong(examine(owner)).keys()


def test_the_folder_of_all_parties_is_not_a_partys(out: Path) -> None:
    found = wrong(examine(out))
    assert [*found] == ["folder"]
    assert "it holds the folders of client, owner, helper" in found["folder"].problem
    assert found["folder"].remedy.endswith(str(out / "client"))


def test_an_end_within_a_month_is_warned_of(out: Path, kits: Path) -> None:
    shutil.copytree(kits, out.parent / "kits", dirs_exist_ok=True)
    certificate_for(out / "owner", -DAY, 9 * DAY)
    with all_serving(out):
        own, from_helper = examine(out / "owner"), examine(out / "helper")
    for found, check in ((own, "certificate"), (from_helper, "owner: certificate")):
        assert found.ok
        assert of(found, check).state == "warning"
        assert "expires in 8 days" in of(found, check).problem
        assert "mpcify keys renew" in of(found, check).remedy


def test_an_authority_that_ends_within_a_month_is_warned_of(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "AUTHORITY_TIME", 20 * DAY)
    create_kits(tmp_path / "short", ROLES)
    found = examine(deploy(exported, tmp_path / "short", tmp_path / "out") / "owner")
    assert "the authority expires" in of(found, "certificate").problem
    assert "keys init" in of(found, "certificate").remedy


def refuse_engine(*_: object) -> None:
    raise MpcifyError(504, "engine", "the package is not installed", "pip install it")


def test_an_engine_that_is_not_installed_is_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedConfig, "build", refuse_engine)
    found = wrong(examine(out / "owner"))
    assert [*found] == ["engine"]
    assert found["engine"].problem.startswith("MPC-504")
    assert found["engine"].remedy == "pip install it"


def test_a_length_that_does_not_fit_hides_no_other(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cluster.trusting import TrustingEngine

    compiles = TrustingEngine.compile

    def picky(self: TrustingEngine, graph: Any) -> Any:
        if graph.length == 4:
            raise MpcifyError(402, "logits", "it overflows", "export ranges that fit")
        return compiles(self, graph)

    monkeypatch.setattr(TrustingEngine, "compile", picky)
    found = examine(out / "owner")
    assert [*wrong(found)] == ["length 4"]
    assert "operations" in of(found, "length 8").value


def test_settings_that_run_what_is_not_proven_are_warned_of(out: Path) -> None:
    edit(out / "owner", force=True)
    found = examine(out / "owner")
    assert found.ok
    assert "answers are wrong" in of(found, "engine").problem


def test_too_little_memory_is_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (1 << 20, 1 << 10))
    found = wrong(examine(out / "owner"))
    assert [*found] == ["memory"]
    assert "GiB at least" in found["memory"].problem


def test_a_containers_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(machine, "CONTROL", tmp_path)
    whole, _ = machine.memory()
    for name, content in {"cpu.max": "50000 100000", "memory.max": "1048576", "memory.current": "48576"}.items():
        (tmp_path / name).write_text(content)
    assert machine.processors() == 0.5
    assert machine.memory() == (1 << 20, 1_000_000)
    for name in ("cpu.max", "memory.max"):
        (tmp_path / name).write_text("max 100000" if name == "cpu.max" else "max")
    assert machine.processors() == len(os.sched_getaffinity(0))
    assert machine.memory()[0] == whole


def test_few_processors_and_many_threads_are_warned_of(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    assert "9 threads" in of(examine(out / "owner"), "processors").problem
    monkeypatch.setattr(machine, "processors", lambda: 1.0)
    assert "two processors" in of(examine(out / "owner"), "processors").remedy


@contextmanager
def listener(address: str, answer: Callable[[socket.socket], object] = lambda client: None) -> Iterator[None]:
    """Another program at an address, which does something with whoever connects, and hangs up."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    try:
                        client.settimeout(2)
                        answer(client)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def address_of(out: Path, role: str) -> str:
    return str(read_deployment(out / "client").addresses[role])


def test_another_program_at_the_partys_addresses_is_found(out: Path) -> None:
    health = str(read_deployment(out / "owner").health)
    with listener(address_of(out, "owner")), listener(health):
        found = wrong(examine(out / "owner"))
    assert [*found] == ["listen", "health"]
    assert "another program listens" in found["listen"].problem
    assert "[parties]" in found["listen"].remedy
    assert "[health]" in found["health"].remedy


def test_an_address_of_another_machine_is_none_to_listen_at(out: Path) -> None:
    edit(out / "owner", owner="192.0.2.1:7000")
    found = wrong(examine(out / "owner"))
    assert [*found] == ["listen"]
    assert 'address = "0.0.0.0:7000"' in found["listen"].remedy
    edit(out / "owner", listen="0.0.0.0:" + free_addresses(1)[0].rpartition(":")[2])
    assert examine(out / "owner").ok


def at_client(out: Path) -> Finding:
    """What a client finds wrong with the owner; it opens no session then."""
    found = wrong(examine(out / "client"))
    assert [*found][-1] == "session"
    assert "not opened" in found["session"].problem
    (finding,) = (each for check, each in found.items() if check.startswith("owner:"))
    return finding


def test_a_peer_that_is_not_there_is_found(out: Path) -> None:
    with serving(out / "helper"):
        found = wrong(examine(out / "client"))
    assert [*found] == ["owner: port", "session"]
    assert "nothing listens" in found["owner: port"].problem
    assert "party serve" in found["owner: port"].remedy


def test_a_name_that_nobody_knows_is_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(peers.socket, "getaddrinfo", unknown)
    with pytest.raises(MpcifyError, match=r"MPC-703 .*owner.example is not known \(Name or.* under \[parties\]"):
        peers.resolved(machine.Address("owner.example", 1))


@pytest.mark.parametrize(
    "error, problem, remedy",
    [(TimeoutError(), "no answer", "firewall"), (OSError(113, "No route"), "No route", "ip route")],
)
def test_a_machine_that_is_not_reached_is_found(
    error: OSError, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(peers.socket, "create_connection", fail)
    with pytest.raises(MpcifyError) as raised:
        peers.connected(machine.Address("127.0.0.1", 1))
    assert problem in raised.value.what
    assert remedy in raised.value.remedy


def test_addresses_that_are_swapped_are_found(out: Path) -> None:
    owner, helper = address_of(out, "owner"), address_of(out, "helper")
    edit(out / "client", owner=helper, helper=owner)
    with all_serving(out):
        found = wrong(examine(out / "client"))
    assert [*found] == ["helper: certificate", "owner: certificate", "session"]
    assert "is the address of helper" in found["owner: certificate"].problem
    assert "address of the owner under [parties]" in found["owner: certificate"].remedy


def test_a_peer_of_another_cluster_is_found(out: Path, exported: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ROLES)
    other = deploy(exported, tmp_path / "others", tmp_path / "other")
    edit(out / "client", owner=address_of(other, "owner"))
    with serving(other / "owner"):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert "does not vouch for it" in found.problem
    assert "kits of one authority" in found.remedy


def test_a_peer_that_does_not_trust_this_party_is_found(out: Path, tmp_path: Path) -> None:
    create_kits(tmp_path / "others", ["owner"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(out / "owner" / "kit" / "certificate.pem", out / "owner" / "kit" / "key.pem")
    context.load_verify_locations(tmp_path / "others" / "owner" / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with listener(address_of(out, "owner"), lambda client: context.wrap_socket(client, server_side=True)):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert "does not take this party's certificate" in found.problem
    assert "clocks" in found.remedy


@pytest.mark.parametrize(
    "begins, ends, problem, remedy", [(-9, -1, "expired", "keys renew"), (1, 9, "not valid yet", "clock")]
)
def test_a_peer_out_of_its_time_is_found(
    begins: int, ends: int, problem: str, remedy: str, out: Path, kits: Path
) -> None:
    shutil.copytree(kits, out.parent / "kits", dirs_exist_ok=True)
    certificate_for(out / "owner", begins * DAY, ends * DAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(out / "owner" / "kit" / "certificate.pem", out / "owner" / "kit" / "key.pem")
    with listener(address_of(out, "owner"), lambda client: context.wrap_socket(client, server_side=True)):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert problem in found.problem
    assert remedy in found.remedy


def older(out: Path) -> Callable[[socket.socket], object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(out / "owner" / "kit" / "certificate.pem", out / "owner" / "kit" / "key.pem")
    return lambda client: context.wrap_socket(client, server_side=True)


def chatty(out: Path) -> Callable[[socket.socket], object]:
    return lambda client: client.sendall(b"220 mail.example ready\r\n") or client.recv(999)


@pytest.mark.parametrize("kind", [older, chatty])
def test_a_peer_that_speaks_something_else_is_found(kind: Callable[[Path], Any], out: Path) -> None:
    with listener(address_of(out, "owner"), kind(out)):
        found = at_client(out)
    assert found.check == "owner: certificate"
    assert "no TLS 1.3" in found.problem
    assert "owner's port" in found.remedy


def test_a_peer_that_does_not_serve_is_found(out: Path) -> None:
    deployment = read_deployment(out / "owner")
    with network_of(deployment, programs_of(deployment)):
        found = at_client(out)
    assert found.check == "owner: service"
    assert "does not serve" in found.problem
    assert "log" in found.remedy


def test_parties_that_differ_are_found_and_what_differs_is_named(out: Path) -> None:
    edit(out / "owner", word="b")
    with all_serving(out):
        found = wrong(examine(out / "client"))
    assert [*found] == ["session"]
    assert "MPC-705 party owner: it has other graphs, settings or version" in found["session"].problem
    assert "party init" in found["session"].remedy


def test_a_client_that_has_a_session_is_not_disturbed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "BUSY", 0.3)
    deployment = read_deployment(out / "client")
    programs = programs_of(deployment)
    with all_serving(out):
        connection = Connection(programs, network_of(deployment, programs), 10)
        try:
            connection.connect()
            found = examine(out / "client")
            assert connection.echo(10)["owner"] > 0
            assert connection.links is not None
            assert connection.number == 1
        finally:
            connection.close()
    assert found.ok
    assert of(found, "session").state == "warning"
    assert "session already" in of(found, "session").problem
    assert "gateway" in of(found, "session").remedy


def test_a_check_that_fails_itself_is_a_finding_without_its_text() -> None:
    findings = Findings()
    assert findings.check("it", lambda: {}["secret"]) is None
    assert findings.check("disk", Path("/nowhere").read_bytes) is None
    broken, disk = findings.all
    assert not broken.ok
    assert "KeyError" in broken.problem
    assert "secret" not in broken.problem
    assert "No such file" in disk.problem


def test_the_command_line_answers_with_a_table_or_json_and_2(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(out / "owner"), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["format"], answer["role"], answer["ok"]) == (1, "owner", True)
    assert {"check", "ok", "problem", "remedy", "value"} == answer["checks"][0].keys()
    flip(weights(out / "owner"))
    assert run(["doctor", str(out / "owner"), "--format", "json"]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert run(["doctor", str(out / "owner")]) == 2
    captured = capsys.readouterr()
    assert "exported" in captured.out
    assert "wrong" in captured.out
    assert "MPC-701" in captured.err


def test_nothing_that_it_says_is_of_a_key(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = out / "owner" / "kit" / "key.pem"
    lines = key.read_text().splitlines()
    for content in (key.read_bytes(), b"-----BEGIN PRIVATE KEY-----\n" + lines[1].encode() + b"\n"):
        key.write_bytes(content)
        run(["doctor", str(out / "owner"), "--format", "json"])
        captured = capsys.readouterr()
        assert not any(line in captured.out + captured.err for line in lines[1:-1])
