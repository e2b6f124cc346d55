"""The gateway over parties that come and go."""

from collections.abc import Callable
from typing import Any

import pytest

from mpcify.cluster import party
from mpcify.cluster.gateway.application import application
from tests.cluster.gateway.service import TOKEN, serving

TEXTS = ["a good film", "a bad film film film film"]


def test_a_party_that_goes_costs_a_request_and_nothing_else(
    cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(party, "PULSE", 0.02)
    with cluster() as running, running.connect(0.3) as private, serving(application(private, TOKEN)) as service:
        first = service.ask(TEXTS)
        assert first[0] == 200
        assert service.get("/ready")[0] == 200
        running.crash("owner")
        gone = [service.get("/ready"), service.ask(TEXTS)]
        assert [(status, answer["error"]["code"]) for status, answer in gone] == [(503, "MPC-703")] * 2
        assert service.get("/health")[0] == 200
        running.start("owner")
        assert service.get("/ready")[0] == 200
        assert service.ask(TEXTS)[1]["results"] == first[1]["results"]
