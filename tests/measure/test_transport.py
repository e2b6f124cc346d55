"""What gRPC and mutual TLS take, measured, and what an estimate makes of it."""

import importlib.util
from typing import Any

import pytest

from mpcify.engines.rules import Work
from mpcify.engines.spu.config import SpuConfig
from mpcify.measure import transport
from mpcify.measure.estimate import told
from mpcify.measure.network import Network
from mpcify.measure.speed import Machine, Speed
from mpcify.measure.transport import measure_transport


def test_a_message_and_a_byte_between_two_parties_take_time() -> None:
    message, byte = measure_transport()
    assert 0 < message < 1
    assert 0 <= byte < 1e-6


def test_without_the_packages_of_real_parties_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, *given: Any) -> Any:
        return None if name == "grpc" else found(name, *given)

    monkeypatch.setattr(transport.importlib.util, "find_spec", without)
    assert measure_transport() == (0.0, 0.0)


def test_an_estimate_counts_it_for_what_waits_and_for_what_is_on_the_line() -> None:
    machine = Machine(Speed(0.0, 0.0, 0.0, sent_message=0.5, sent_byte=0.25), SpuConfig("aby3").rules())
    work = Work(bytes=12, messages=3, line=8)
    line = Network("", 0.0, 2.0)
    assert told(work, machine, line).seconds == 3 * 0.5 + 8 * 0.25 + 8 / 2.0
