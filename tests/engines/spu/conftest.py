"""A session that tests share."""

from collections.abc import Iterator

import pytest

from mpcify.engines.spu.engine import SpuSession
from tests.engines.spu.models import FORCED
from tests.makers import small_model


@pytest.fixture(scope="module")
def session() -> Iterator[SpuSession]:
    """The small model under ABY3."""
    graph, weights = small_model()
    with FORCED.build().compile(graph).load(weights) as opened:
        yield opened
