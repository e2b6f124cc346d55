"""Functions by a table, and outputs: exact against the table, and the tables as near their functions as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.plain import gelu
from mpcify.engines.ring.protocols.lookup import Lookup, Output, Table
from mpcify.engines.ring.tables import FUNCTIONS, ROOT_ERROR, root_table, table
from tests.engines.ring.scene import Chain, Scene, below, in_parts, integers, signed

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=40, deadline=None)


def tables(random: np.random.Generator, bits: int, step: int, fine: int) -> Table:
    """A table of coefficients of every size."""
    return Table(bits, step, fine, random.integers(-(2**20), 2**20, (3, 1 << bits - step)))


def looked_up(v: np.ndarray, r: np.ndarray, t: Table) -> np.ndarray:
    """What the formula gives for the argument v and the mask r: the entry of v + r, less that of r."""
    dropped = t.step - t.fine
    c = (v + r) % (1 << t.bits)
    index = ((c >> t.step) - (r >> t.step)) % t.entries
    assert ((index - (v >> t.step)) % t.entries <= 1).all()
    w = (c % (1 << t.step) >> dropped) - (r % (1 << t.step) >> dropped)
    a, b, q = (integers(t.coefficients[i])[index.astype(int)] for i in range(3))
    return a + b * w + q * w * w


@many
@given(
    SEEDS,
    st.sampled_from([(12, 8, 8), (20, 12, 11), (16, 10, 4), (40, 32, 11), (6, 0, 0), (63, 56, 11)]),
    st.booleans(),
    st.integers(20, 64),
)
def test_a_look_up_is_the_polynomial_of_its_entry(
    seed: int, sizes: tuple[int, int, int], early: bool, ring: int
) -> None:
    random, chain, (bits, step, fine) = np.random.default_rng(seed), Chain(), sizes
    t, offset, shape = tables(random, bits, step, fine), 1 << bits - 1, (3, 4)
    v = below(random, 1 << bits - 1, *shape) % ((1 << bits) - (1 << step))
    source = chain.given(in_parts(random, v - offset, bits, dealer=False), ahead=early)
    last = chain.add(Lookup, source, shape=shape, messages=1, table=t, offset=offset, early=early, dealt=False)
    scene = Scene(chain.ready(last, ring).steps).run()
    mask = scene.opened_with(last, bits)
    np.testing.assert_array_equal(scene.whole(last, ring), signed(looked_up(v, mask, t), ring))


@many
@given(SEEDS, st.sampled_from([(1, 1), (2, 3), (1, 5)]), st.sampled_from([8, 24, 40, 48, 64]))
def test_an_output_is_the_value_and_the_client_alone_has_it(seed: int, shape: tuple[int, int], width: int) -> None:
    random, chain = np.random.default_rng(seed), Chain()
    z = below(random, 1 << width - 1, *shape)
    source = chain.given(in_parts(random, z, width))
    last = chain.add(Output, source, shape=shape, messages=1, name="y", scale=2**5, width=width)
    scene = Scene(chain.ready(last, width).steps).run()
    np.testing.assert_array_equal(scene.client.values[last.index], z.astype(float) / 2**5)
    assert last.index not in scene.owner.values
    assert [role for role, _ in scene.said] == ["owner"]


def nearest(t: Table, v: np.ndarray, up: int) -> np.ndarray:
    """What a table gives at v from the entry below it (up = 0), or from the next one (up = 1)."""
    index = (v >> t.step) + up
    w = (v - (index << t.step)) / 2.0 ** (t.step - t.fine)
    a, b, q = t.coefficients[:, index]
    return a + b * w + q * w * w


@pytest.mark.parametrize("up", [0, 1])
@pytest.mark.parametrize("spread", [1.5, 4.0, 16.0, 30.0])
@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_a_root_is_exact_to_what_is_promised_where_variances_were_measured(up: int, spread: float, eps: float) -> None:
    """The measured range is the declared one without an eighth at either end; its ends are `spread` apart."""
    least, bits = 0.02, 34
    variances = least / 8, least * spread * 8
    unit, scale = variances[1] * 1.02 / 2**bits, 2.0**40
    t = root_table(bits, variances, unit, eps, scale)
    v = np.unique(np.geomspace(least / unit, least * spread / unit, 20000).astype(np.int64))
    wanted = scale / np.sqrt(v * unit + eps)
    assert np.abs(nearest(t, v, up) / wanted - 1).max() < ROOT_ERROR


@pytest.mark.parametrize("up", [0, 1])
def test_a_root_is_of_the_right_size_in_all_of_the_declared_range(up: int) -> None:
    """At its lower end, an eighth of what was measured, entries are coarse; nothing is lost by orders of magnitude."""
    variances, bits = (0.02 / 8, 0.02 * 16 * 8), 34
    unit = variances[1] * 1.02 / 2**bits
    t = root_table(bits, variances, unit, 1e-12, 2.0**40)
    v = np.unique(np.geomspace(variances[0] / unit, variances[1] / unit, 20000).astype(np.int64))
    wanted = 2.0**40 / np.sqrt(v * unit)
    assert np.abs(nearest(t, v, up) / wanted - 1).max() < 0.03


@pytest.mark.parametrize("up", [0, 1])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("reach", [1.0, 6.0, 20.0])
def test_a_function_of_the_head_is_near_its_table(up: int, name: str, reach: float) -> None:
    """By h²·max|f″|/2 for entries h apart, and by h/2 where f has a corner."""
    bits, scale, step = 34, 2.0**28, 2 * reach / 1024
    unit = 2 * reach / 2**bits
    t = table(FUNCTIONS[name], bits, 1 << 10, unit, -reach, scale)
    v = np.linspace(0, 2**bits - 2**t.step - 1, 40001).astype(np.int64)
    x = v * unit - reach
    wanted = {"tanh": np.tanh(x), "relu": np.maximum(x, 0), "gelu": gelu(x)}[name]
    limit = step / 2 if name == "relu" else 0.4 * step**2
    assert np.abs(nearest(t, v, up) / scale - wanted).max() < 1.01 * limit + 1e-5


def test_an_argument_outside_a_table_finds_the_other_end() -> None:
    """Nothing warns of it: so a table covers all of a declared range, and one step more."""
    chain, bits, step = Chain(), 12, 8
    t = Table(bits, step, step, np.stack([np.arange(16), np.zeros(16), np.zeros(16)]).astype(np.int64))
    v = np.array([[(1 << bits) - (1 << step) - 1, (1 << bits) + 1, -(1 << step) - 1]], object)
    source = chain.given(in_parts(np.random.default_rng(0), v, 64, dealer=False))
    last = chain.add(Lookup, source, shape=v.shape, messages=1, table=t, offset=0, early=False, dealt=False)
    found = Scene(chain.ready(last, 64).steps).run().whole(last, 64)[0]
    assert set(found - np.array([14, 0, 14], object)) <= {0, 1}
