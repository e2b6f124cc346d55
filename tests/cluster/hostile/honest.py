"""What parties must do for an honest client, whatever others do to them."""

from pathlib import Path

import numpy as np

from mpcify.cluster import party
from mpcify.cluster.deployed import connect
from mpcify.cluster.deployment import read_deployment
from tests.cluster.intruder import Intruder

TEXTS = ["a good film", "a bad film film film film", "good"]  # of two lengths
SERVING = ("owner", "helper")
SILENCE = 2.0  # seconds after which a silent peer is taken for gone


def check(folder: Path, expected: np.ndarray) -> None:
    """An honest client's requests are answered."""
    with connect(folder / "client") as private:
        np.testing.assert_allclose(private(TEXTS)[0], expected, rtol=1e-6)


def check_refused(rogue: Intruder, *words: str, patience: float = 10.0) -> None:
    """A party ended the session with one of these words; the other did so too, or because of that."""
    reasons = rogue.reasons(patience).values()
    because = [any(word in reason for word in words) for reason in reasons]
    assert any(because), reasons
    assert all(found or party.GONE in reason for found, reason in zip(because, reasons, strict=True)), reasons


def address_of(out: Path, role: str) -> tuple[str, int]:
    host, port = str(read_deployment(out / role).listen).split(":")
    return host, int(port)
