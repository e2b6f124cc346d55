"""What lies in deploy/ and what operators read fits the code: paths, ports, names, times and rights."""

import ast
import inspect
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import mpcify
from mpcify.cluster.canary import FIELDS
from mpcify.cluster.config import EXPORTED, FILE, HEALTH, KIT, Timeouts
from mpcify.cluster.health import Health
from mpcify.cluster.logs import Log
from mpcify.cluster.metrics import Metrics
from mpcify.engines.cost import Cost
from mpcify.errors import CODES

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
USER = 10001


def documents(file: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((DEPLOY / file).read_text(encoding="utf-8"))]


def manifest(role: str, kind: str) -> dict[str, Any]:
    """The one object of a kind among a role's."""
    (found,) = [item for item in documents(f"kubernetes/{role}.yaml") if item["kind"] == kind]
    return found


def pod(role: str) -> dict[str, Any]:
    return manifest(role, "Deployment")["spec"]["template"]["spec"]


def exposed() -> str:
    """Everything that a party can ever expose."""
    metrics = Metrics("owner")
    metrics.request(1.0, Cost(), 64)
    metrics.round_trip("helper", 1.0)
    return metrics.text().decode()


def samples() -> set[str]:
    """The names of all samples of mpcify's own."""
    return set(re.findall(r"^(mpcify_\w+)", exposed(), re.MULTILINE))


@pytest.fixture
def health() -> Iterator[Health]:
    with Health("127.0.0.1", 0, Metrics("owner")) as health:
        yield health


def test_every_file_is_yaml() -> None:
    files = sorted(DEPLOY.rglob("*.yaml"))
    assert len(files) == 4
    for file in files:
        assert all(isinstance(item, dict) for item in documents(str(file.relative_to(DEPLOY)))), file


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_probes_ask_what_a_party_answers_where_it_listens(role: str, health: Health) -> None:
    (container,) = pod(role)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert [probe["path"] for probe in asked.values()] == ["/live", "/live", "/ready"]
    assert {health.answer("GET", probe["path"])[0].value for probe in asked.values()} <= {200, 503}
    assert {probe["port"] for probe in asked.values()} == {"health"}
    assert f":{ports['health']}" in HEALTH[role]  # type: ignore[index]


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_a_party_has_no_right_that_it_does_not_need(role: str) -> None:
    """The restricted profile of Kubernetes' Pod Security Standards, and a root file system that cannot be written."""
    spec = pod(role)
    (container,) = spec["containers"]
    whole, own = spec["securityContext"], container["securityContext"]
    assert (whole["runAsNonRoot"], whole["runAsUser"], whole["seccompProfile"]) == (
        True,
        USER,
        {"type": "RuntimeDefault"},
    )
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert "limits" in container["resources"]


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_a_party_finds_its_folder_and_can_write_nothing_but_tmp(role: str) -> None:
    spec = pod(role)
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    assert {path for path, mount in mounts.items() if not mount.get("readOnly")} == {"/tmp"}
    assert mounts.keys() - {"/tmp"} == {f"/deployment/{name}" for name in (FILE, KIT, EXPORTED)}
    # nobody but root and the party's own group reads the key: what keys.py takes
    assert volumes["kit"]["secret"]["defaultMode"] == 0o440
    assert spec["securityContext"]["fsGroup"] == USER


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_there_is_one_party_of_a_name_and_it_has_time_to_finish(role: str) -> None:
    spec = manifest(role, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert pod(role)["terminationGracePeriodSeconds"] > Timeouts().message


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_objects_select_the_pods_of_their_role(role: str) -> None:
    deployment = manifest(role, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == role
    selectors = (
        deployment["spec"]["selector"]["matchLabels"],
        manifest(role, "Service")["spec"]["selector"],
        manifest(role, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        manifest(role, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    )
    assert all(selector.items() <= labels.items() for selector in selectors)


def blocks(role: str, way: str, port: Any) -> set[str]:
    """The addresses that a network policy lets in or out at a port."""
    rules = [rule for rule in manifest(role, "NetworkPolicy")["spec"][way] if rule["ports"][0]["port"] == port]
    ends = [end for rule in rules for end in rule["from" if way == "ingress" else "to"]]
    return {end["ipBlock"]["cidr"] for end in ends}


def test_only_those_who_dial_are_let_in_and_only_the_helper_goes_out() -> None:
    owner, helper = (manifest(role, "NetworkPolicy")["spec"] for role in ("owner", "helper"))
    assert owner["policyTypes"] == helper["policyTypes"] == ["Ingress", "Egress"]
    assert owner["egress"] == []
    assert len(helper["egress"]) == 1
    (client,) = blocks("helper", "ingress", "party")
    assert client in blocks("owner", "ingress", "party")
    assert len(blocks("owner", "ingress", "party")) == 2
    assert len(blocks("helper", "egress", 7000)) == 1


@pytest.mark.parametrize("role", ["owner", "helper"])
def test_the_service_keeps_the_addresses_that_the_policy_asks_for(role: str) -> None:
    service = manifest(role, "Service")["spec"]
    assert service["externalTrafficPolicy"] == "Local"
    assert {*service["loadBalancerSourceRanges"]} == blocks(role, "ingress", "party")
    assert [port["targetPort"] for port in service["ports"]] == ["party"]


def test_images_run_a_verb_as_a_user_without_rights() -> None:
    lines = [line.strip() for line in DOCKERFILE.splitlines() if line.strip() and not line.startswith("#")]
    assert f"USER {USER}:{USER}" in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert [line.split(" AS ")[1] for line in lines if line.startswith("FROM")] == [
        "installed",
        "base",
        "party",
        "gateway",
    ]
    entries = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT")]
    assert entries == [["mpcify", "party", "serve", "/deployment"], ["mpcify", "gateway", "/deployment"]]
    assert "[spu,parties]" in DOCKERFILE
    assert not re.search(r"torch|\[(train|all|demo)", DOCKERFILE)


def test_an_image_gets_nothing_of_the_checkout_but_what_it_copies() -> None:
    sources = {
        word
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY") and "--from" not in line
        for word in shlex.split(line)[1:-1]
    }
    lines = (DEPLOY / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines[1:]} == sources
    assert all(list(ROOT.glob(source)) for source in sources - {"dist/*.whl"})


@pytest.mark.parametrize("listening", ["127.0.0.1", "0.0.0.0"])
def test_the_health_check_asks_the_party_of_the_folder(health: Health, tmp_path: Path, listening: str) -> None:
    lives = runpy.run_path(str(DEPLOY / "docker/probe.py"))["lives"]
    (tmp_path / FILE).write_text(f'[health]\naddress = "{listening}:{health.port}"\n', encoding="utf-8")
    assert lives(tmp_path)
    health.beat(-1)
    assert not lives(tmp_path)
    health.close()
    assert not lives(tmp_path)


def test_the_compose_file_runs_each_party_from_its_own_folder_with_no_right() -> None:
    (compose,) = documents("compose.yaml")
    folders = {"owner": "owner", "helper": "helper", "gateway": "client"}
    assert compose["services"].keys() == folders.keys()
    for name, service in compose["services"].items():
        assert service["build"]["target"] == ("gateway" if name == "gateway" else "party")
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        (volume,) = service["volumes"]
        assert volume.endswith(f"/{folders[name]}:/deployment:ro")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert 60 * int(service["stop_grace_period"].removesuffix("m")) > Timeouts().message


def rules() -> list[dict[str, Any]]:
    (file,) = documents("prometheus/alerts.yaml")
    return [rule for group in file["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_exposed(rule: dict[str, Any]) -> None:
    names = set(re.findall(r"\bmpcify_\w+", rule["expr"]))
    assert names <= samples()
    assert names or rule["expr"].startswith("up{")
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}
    for label, value in re.findall(r'\b(\w+)=~?"([^"]+)"', rule["expr"]):
        if label != "job":
            shown = re.findall(rf'\b{label}="([^"]+)"', exposed())
            alternatives = value.split("|")
            assert [each for each in alternatives if not any(re.fullmatch(each, name) for name in shown)] == []


def test_the_guide_has_every_alert() -> None:
    assert set(re.findall(r"`(Mpcify\w+)`", GUIDE)) == {rule["alert"] for rule in rules()}


def test_the_guide_has_every_metric() -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples() if not name.endswith("_created")}
    assert set(re.findall(r"\bmpcify_\w+", GUIDE)) == families


def test_the_guide_has_every_field_of_a_log() -> None:
    fields = set(inspect.signature(Log.event).parameters) - {"self"} | {"time", "party"}
    table = GUIDE.split("| field |")[1].split("\n\n")[0]
    assert {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])} == fields


def test_the_guide_has_every_event() -> None:
    written = set()
    for path in (Path(mpcify.__file__).parent / "cluster").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(ast.Name("log") | ast.Attribute(attr="log"), "event" | "failure")):
                    written |= {word.value for word in ast.walk(node.args[0]) if isinstance(word, ast.Constant)}
    table = GUIDE.split("| event |")[1].split("\n\n")[0]
    events = {name for line in table.splitlines()[2:] for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    assert {word for word in written if isinstance(word, str)} == events


def test_the_guide_explains_numbers_that_there_are() -> None:
    table = GUIDE.split("| code | first")[1].split("\n\n")[0]
    numbers = {int(number) for line in table.splitlines()[2:] for number in re.findall(r"\d+", line.split("|")[1])}
    assert {code for code in CODES if code // 100 == 7} <= numbers <= CODES.keys()


def test_the_guides_known_answers_have_the_fields_that_are_read() -> None:
    lines = [json.loads(line) for line in re.findall(r'^\{"input".*$', GUIDE, re.MULTILINE)]
    assert {tuple(line) for line in lines} == {*FIELDS.values()}
