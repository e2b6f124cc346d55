"""Every engine keeps the contract."""

import pytest

from mpcify.engines.config import PlainConfig
from mpcify.engines.fixed.config import FixedConfig
from mpcify.engines.ring.config import RingConfig
from mpcify.engines.spu.config import SpuConfig
from mpcify.errors import MpcifyError
from tests.engines.contract import EngineContract, PartyContract
from tests.engines.samples import one_of_each
from tests.engines.toy import ToyConfig

AS_JAX_WRITES_THEM = frozenset({"softmax", "gelu-erfc"})  # the benchmark's recipe `naive` runs them
DIVIDES = AS_JAX_WRITES_THEM | {"max", "exp", "reciprocal", "gelu-tanh", "gelu-poly", "square-linear", "square-matmul"}


class TestPlain(EngineContract):
    config = PlainConfig()
    tolerance = 1e-12  # both are float64


class TestFixed(EngineContract):
    config = FixedConfig(force=True)
    tolerance = 5e-3  # rsqrt errs by 1e-3, times a normal value of 3
    refuses = AS_JAX_WRITES_THEM


class TestFixedIn48Bits(EngineContract):
    config = FixedConfig(48, force=True)
    tolerance = 3e-2  # of 14 fraction bits
    refuses = AS_JAX_WRITES_THEM


class TestSpu(EngineContract):
    config = SpuConfig(force=True)
    tolerance = 5e-3
    refuses_not_finite = True


class TestSpuOfTwoParties(EngineContract):
    config = SpuConfig("semi2k", force=True, trust_first_party=True)
    tolerance = 5e-3
    refuses_not_finite = True


class TestSpuIn32Bits(EngineContract):
    config = SpuConfig("aby3", 32, force=True)
    tolerance = 0.1  # of 12 fraction bits
    wide = 1.25  # the squares in a variance reach 42; at 64 a truncation may go wrong
    refuses_not_finite = True
    refuses = AS_JAX_WRITES_THEM | {"reciprocal", "gelu", "exp"}


class TestSpuParties(PartyContract):
    config = SpuConfig(force=True)
    tolerance = 5e-3
    largest = 2


class TestTwoSpuParties(PartyContract):
    config = SpuConfig("semi2k", force=True, trust_first_party=True)
    tolerance = 5e-3
    largest = 4


class TestRing(EngineContract):
    config = RingConfig(force=True)
    tolerance = 5e-3
    wide = 2.0  # a sum of squares stays in the range that is taken for granted
    refuses_not_finite = True
    refuses = DIVIDES


class TestRingDelegated(TestRing):
    config = RingConfig(force=True, inputs="delegated")


class TestRingParties(PartyContract):
    config = RingConfig(force=True, ahead=0)
    tolerance = 5e-3
    largest = 1


class TestRingPartiesAhead(TestRingParties):
    config = RingConfig(force=True, ahead=2)


class TestToy(EngineContract):
    config = ToyConfig()
    tolerance = 1e-12


def test_a_kind_that_an_engine_does_not_cover_is_not_taken_for_a_composite() -> None:
    with pytest.raises(MpcifyError, match=r"MPC-401 .*no operation 'softmax'\. Do this: use --engine plain"):
        FixedConfig().build().compile(one_of_each(["softmax"])[0])
