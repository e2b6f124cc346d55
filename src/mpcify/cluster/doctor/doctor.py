"""All checks of a deployed folder, in the order in which a reader mends what is wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcify.cluster.addresses import Address
from mpcify.cluster.config import FILE, KIT
from mpcify.cluster.doctor.findings import Finding, Findings
from mpcify.cluster.doctor.folder import Parts, check_folder
from mpcify.cluster.doctor.halves import check_delegated, check_thin
from mpcify.cluster.doctor.machine import check_machine
from mpcify.cluster.doctor.peers import check_peer, is_party
from mpcify.cluster.doctor.session import check_session
from mpcify.cluster.session import CLIENT
from mpcify.cluster.thin.config import THIN, is_thin


@dataclass(frozen=True)
class Diagnosis:
    """What was found. role: the party's, or thin for a client that is none; None if `cluster.toml` does not say it."""

    role: str | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.ok for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object."""
        return {"role": self.role, "ok": self.ok, "checks": [finding.to_json() for finding in self.findings]}


def examine(folder: str | Path) -> Diagnosis:
    """Checks a deployed folder, this machine, and the way to each peer that the party dials.

    The client also opens a session, in which nothing is computed. Nothing is changed; whatever is wrong is a finding,
    and nothing is raised for it.
    """
    folder, findings = Path(folder), Findings()
    if is_thin(folder):
        check_thin(folder, findings)
        return Diagnosis(THIN, tuple(findings.all))
    parts = check_folder(folder, findings)
    if parts is None:
        return Diagnosis(None, tuple(findings.all))
    deployment, kit = parts.deployment, folder / KIT

    def ours(address: Address) -> bool:
        return deployment is not None and parts.kit is not None and is_party(deployment.role, address, kit)

    check_machine(parts, ours, findings)
    if deployment is not None:
        check_delegated(deployment, findings)
    check_peers(parts, kit, findings)
    return Diagnosis(deployment.role if deployment else None, tuple(findings.all))


def check_peers(parts: Parts, kit: Path, findings: Findings) -> None:
    """Goes the way to each peer that is dialled. If all lead to the end, and all is well here, a client connects."""
    deployment = parts.deployment
    if deployment is None or parts.kit is None:
        findings.wrong("peers", "not looked for yet", f"put {FILE} and the kit right, and run mpcify doctor again")
        return
    dialled = {peer: Address.parse(address) for peer, address in deployment.peers.items() if address}
    if not dialled:
        findings.check("peers", lambda: "none is dialled: they dial this party")
    reached = [check_peer(peer, address, parts.kit, kit, findings) for peer, address in dialled.items()]
    if deployment.role == CLIENT and all(reached) and parts.exported and parts.programs:
        check_session(deployment, parts.exported, findings)
    elif deployment.role == CLIENT:
        findings.wrong("session", "not opened yet", "put right what stands above, and run mpcify doctor again")
