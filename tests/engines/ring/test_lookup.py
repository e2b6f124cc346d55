"""Functions by a table, and outputs: exact against the table, and the tables as near their functions as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.engines.plain import gelu
from mpcify.engines.ring.protocols.lookup import Lookup, Output, Table
from mpcify.engines.ring.tables import FUNCTIONS, LEAST, entries_of, function_tables, root_tables
from mpcify.engines.ring.widths import COARSEST, FARTHEST, SLACK
from tests.engines.ring.scene import Chain, Scene, below, in_parts, integers, signed

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=40, deadline=None)


def tables(random: np.random.Generator, bits: int, step: int, fine: int) -> Table:
    """A table of coefficients of every size."""
    return Table(bits, step, fine, random.integers(-(2**20), 2**20, (3, 2, 1 << bits - step)))


def looked_up(v: np.ndarray, r: np.ndarray, t: Table) -> np.ndarray:
    """What the formulas give for the argument v and the mask r: the entry of v + r, less that of r."""
    dropped = t.step - t.fine
    c = (v + r) % (1 << t.bits)
    index = ((c >> t.step) - (r >> t.step)) % t.entries
    assert ((index - (v >> t.step)) % t.entries <= 1).all()
    w = (c % (1 << t.step) >> dropped) - (r % (1 << t.step) >> dropped)
    a, b, q = (integers(t.coefficients[i])[:, index.astype(int)] for i in range(3))
    return a + b * w + q * w * w


@many
@given(
    SEEDS,
    st.sampled_from([(12, 8, 8), (20, 12, 11), (16, 10, 4), (40, 32, 11), (6, 0, 0), (63, 56, 11)]),
    st.booleans(),
    st.integers(20, 64),
)
def test_a_look_up_is_the_polynomials_of_its_entry(
    seed: int, sizes: tuple[int, int, int], early: bool, ring: int
) -> None:
    random, chain, (bits, step, fine) = np.random.default_rng(seed), Chain(), sizes
    t, offset, shape = tables(random, bits, step, fine), 1 << bits - 1, (3, 4)
    v = below(random, 1 << bits - 1, *shape) % ((1 << bits) - (1 << step))
    source = chain.given(in_parts(random, v - offset, bits, dealer=False), ahead=early)
    last = chain.add(Lookup, source, shape=(2, *shape), messages=1, table=t, offset=offset, early=early, dealt=False)
    scene = Scene(chain.ready(last, ring).steps).run()
    mask = scene.opened_with(last)
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


def nearest(t: Table, v: np.ndarray, up: int, function: int = 0) -> np.ndarray:
    """What a table gives at v from the entry below it (up = 0), or from the next one (up = 1)."""
    index = (v >> t.step) + up
    w = (v - (index << t.step)) / 2.0 ** (t.step - t.fine)
    a, b, q = t.coefficients[:, function, index % t.entries]
    return a + b * w + q * w * w


def rooted(tables: tuple[Table, ...], v: np.ndarray, up: tuple[int, int]) -> np.ndarray:
    """What the tables of a root give together: the second one's, where the first one says so."""
    upper, *others = tables
    found = nearest(upper, v, up[0])
    for lower in others:
        found = found + nearest(upper, v, up[0], 1) * nearest(lower, v % (1 << lower.bits), up[1])
    return found


def roots(spread: float, eps: float = 1e-12, bits: int = 34) -> tuple[tuple[Table, ...], tuple[float, float], float]:
    """Tables of 2^40/√v for variances that were measured `spread` apart; the declared range, and v's unit."""
    variances = 0.02 / 8, 0.02 * spread * 8
    unit = variances[1] * SLACK / (1 - 1 / LEAST) / 2**bits
    return root_tables(bits, variances, unit, eps, 2.0**40), variances, unit


UPS = st.tuples(st.integers(0, 1), st.integers(0, 1))
SPREADS = st.floats(1.01, FARTHEST / 64)


@many
@given(SPREADS, UPS, st.sampled_from([1e-12, 1e-5]), st.sampled_from([20, 30, 34, 40]))
def test_a_root_is_exact_where_variances_were_measured(
    spread: float, up: tuple[int, int], eps: float, bits: int
) -> None:
    """That is the declared range without an eighth at either end. Its error is that of the polynomials, and half a unit
    of an argument of few bits."""
    tables, (least, largest), unit = roots(spread, eps, bits)
    v = np.unique(np.geomspace(8 * least / unit, largest / 8 / unit, 5000).astype(np.int64))
    wanted = 2.0**40 / np.sqrt(v * unit + eps)
    assert np.abs(rooted(tables, v, up) / wanted - 1).max() < 6e-4


@many
@given(SPREADS, UPS)
def test_a_root_stays_below_its_bound_in_all_of_the_declared_range(spread: float, up: tuple[int, int]) -> None:
    """It is opened in a ring in which what the least variance gives fits, with the slack that widths have."""
    tables, (least, largest), unit = roots(spread)
    v = np.unique(np.geomspace(least / unit, largest / unit, 5000).astype(np.int64))
    found = rooted(tables, v, up)
    assert found.max() < 2.0**40 / np.sqrt(least) * SLACK
    assert np.abs(found / (2.0**40 / np.sqrt(v * unit)) - 1).max() < 0.03


@many
@given(SPREADS, st.sampled_from([20, 34, 48]))
def test_no_index_wraps_in_the_declared_range(spread: float, bits: int) -> None:
    """The mask may lift the index by one, and the argument may be larger by the slack."""
    tables, (_, largest), unit = roots(spread, bits=bits)
    for t in tables:
        assert t.coefficients.shape[2] == t.entries
    assert largest * SLACK / unit < 2 ** tables[0].bits - 2 ** tables[0].step + 1
    if len(tables) > 1:
        upper, lower = tables
        used = np.flatnonzero(upper.coefficients[0, 1]).max()
        assert (used + 2) << upper.step <= (1 << lower.bits) - (1 << lower.step)


def around_zero(tables: tuple[Table, ...], v: np.ndarray, up: tuple[int, int]) -> np.ndarray:
    """What tables of a function of the head give together; half of each is for arguments below zero."""
    upper, *others = tables
    found = nearest(upper, v, up[0])
    for lower in others:
        found = found + nearest(upper, v, up[0], 1) * nearest(
            lower, (v + (1 << lower.bits - 1)) % (1 << lower.bits), up[1]
        )
    return found


@pytest.mark.parametrize("up", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("reach", [1.0, 6.0, 24.0, 512.0])
def test_a_function_of_the_head_is_near_its_tables(up: tuple[int, int], name: str, reach: float) -> None:
    """For entries h apart: h³/7 of the polynomial, and what last bits of argument and q are worth. A straight line has
    no error, and the second table's entries around the corner are so near that theirs is less than h/600."""
    bits, scale = 40, 2.0**28
    unit = 2 * reach / 2**bits
    tables = function_tables(name, bits, entries_of(name, bits, unit), unit, scale)
    step = 2.0 ** tables[0].step * unit
    places = [np.linspace(0, 2**bits - 2 ** tables[0].step - 1, 40001)]
    places.append(2 ** (bits - 1) + np.linspace(-2, 2, 40001) * 2 ** tables[0].step)
    v = np.concatenate(places).astype(np.int64)
    x = v * unit - reach
    wanted = {"tanh": np.tanh(x), "relu": np.maximum(x, 0), "gelu": gelu(x)}[name]
    limit = step / 600 + 1e-5 if name == "relu" else step**3 / 7 + step / 200 + 3e-4
    assert step <= COARSEST
    assert np.abs(around_zero(tables, v, up) / scale - wanted).max() < limit


def test_an_argument_outside_a_table_finds_the_other_end() -> None:
    """Nothing warns of it: so a table covers all of a declared range, and one step more."""
    chain, bits, step = Chain(), 12, 8
    t = Table(bits, step, step, np.stack([np.arange(16), np.zeros(16), np.zeros(16)])[:, None].astype(np.int64))
    v = np.array([[(1 << bits) - (1 << step) - 1, (1 << bits) + 1, -(1 << step) - 1]], object)
    source = chain.given(in_parts(np.random.default_rng(0), v, 64, dealer=False))
    last = chain.add(Lookup, source, shape=(1, *v.shape), messages=1, table=t, offset=0, early=False, dealt=False)
    found = Scene(chain.ready(last, 64).steps).run().whole(last, 64)[0, 0]
    assert set(found - np.array([14, 0, 14], object)) <= {0, 1}
