"""All draws of a tiny ring: what a party sees has the same distribution whatever the others' secrets are.

A 1×1 linear layer with the owner's mask turned round (F at client and owner, W − F at the dealer) in the ring 2^3, of a
value that is cut when it is masked, and Beaver's product in 2^2, each opened without any correction of the product: the
dealer's part moves the mask alone. An input in halves, in 2^2, from its client to its answer. Then openings and masks
towards both of which a bit is cut off, in 2^4. One array holds every combination of draws, so that one run takes all of
them. Controls with a mask less are found.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest

from mpcify.engines.ring.prg import Place, Prg, Purpose
from mpcify.engines.ring.protocols.local import EnteredInParts
from mpcify.engines.ring.protocols.lookup import OutputInParts
from mpcify.engines.ring.protocols.masking import Mask, MaskBoth
from mpcify.engines.ring.protocols.opening import Lift, Open, Renew
from mpcify.engines.ring.protocols.products import Diagonal, Multiplied
from tests.engines.ring.scene import Chain, Scene, Words, received


class Listed(Prg):
    """Streams that are given."""

    def __init__(self, streams: Mapping[tuple[int, Purpose], Words]) -> None:
        self.streams = streams

    def words(self, place: Place, purpose: Purpose, shape: tuple[int, ...]) -> Words:
        return self.streams[place.step, purpose].reshape(shape)


def combinations(*bits: int) -> list[Words]:
    """Every combination of words of so many bits: an array for each of them."""
    grid = np.indices([1 << count for count in bits]).reshape(len(bits), -1)
    return [np.ascontiguousarray(row, np.int64) for row in grid]


def distribution(*seen: tuple[Words, int]) -> Words:
    """How often each view occurs, of words of so many bits each."""
    code = np.zeros(seen[0][0].size, np.int64)
    for words, bits in seen:
        code = (code << bits) | (words.reshape(-1) & ((1 << bits) - 1))
    return np.bincount(code, minlength=1 << sum(bits for _, bits in seen))


def all_same(views: Mapping[tuple[int, ...], list[Words]]) -> bool:
    """Whether views depend on nothing but what the party itself knows."""
    return all(np.array_equal(view, first) for first, *others in views.values() for view in others)


RING, SHIFT = 3, 1
KAPPA = RING - SHIFT


def linear_views(x0: int, x1: int, w: int, without: str = "") -> tuple[Words, Words, Words]:
    """The views of client, owner and dealer over all draws, of (x₀ + x₁)·w opened, cut and masked towards the owner.

    without: a draw that is zero.
    """
    sizes = {"A": RING + SHIFT, "F": RING, "D0": RING, "D1": RING, "h0": RING, "m0": 1, "a": 1}
    drawn = dict(zip(sizes, combinations(*(0 if name == without else sizes[name] for name in sizes)), strict=True))
    shape, chain = drawn["A"].shape, Chain()
    x = chain.given({"client": np.full(shape, x0), "owner": np.full(shape, x1)})
    mask = chain.add(Mask, x, shape=shape, messages=1, shift=SHIFT, ahead=True)
    slot = chain.slot(shape, True)
    layer = chain.add(Diagonal, mask, shape=shape, slot=slot, ahead=True)
    opened = chain.add(Open, layer, shape=shape, messages=1, shift=SHIFT, width=RING, early=True)
    last = chain.add(Renew, opened, shape=shape, messages=1, opened=opened, ahead=True)
    draws = {
        "A": (mask.index, Purpose.FRESH),
        "D0": (opened.index, Purpose.MASK),
        "h0": (opened.index, Purpose.HIGH),
        "m0": (opened.index, Purpose.WRAP),
        "a": (last.index, Purpose.FRESH),
    }
    client = Listed({place: drawn[name] for name, place in draws.items()})
    secrets = {"k02": client, "k12": Listed({(opened.index, Purpose.MASK): drawn["D1"]})}
    weights = {"client": {slot: drawn["F"]}, "owner": {slot: np.full(shape, w)}, "dealer": {slot: w - drawn["F"]}}
    scene = Scene(chain.ready(last, RING).steps, secrets, weights).run()  # type: ignore[arg-type]
    h1, m1 = scene.dealt[opened.index]
    of_client = [(drawn[name], sizes[name]) for name in draws]
    return (
        distribution(*of_client, (drawn["F"], RING), (scene.said["owner", opened.index], KAPPA)),
        distribution(
            *((drawn[name], RING) for name in ("F", "D1")),
            *((scene.said["client", mask.index], RING), (scene.halves[opened.index], KAPPA)),
            *((h1, RING), (m1, 1), (scene.said["client", last.index], RING - KAPPA)),
        ),
        distribution(*of_client, (drawn["D1"], RING), (scene.dealer.weights[slot], RING)),
    )


@pytest.mark.parametrize(
    "without, safe",
    [
        ("", "client owner dealer"),
        ("A", "client dealer"),
        ("F", "client owner"),
        ("D0", "client dealer"),
        ("D1", "owner dealer"),
        ("h0", "client dealer"),
        ("m0", "client dealer"),
        ("a", "client dealer"),
    ],
)
def test_a_linear_layer_shows_each_party_nothing(without: str, safe: str) -> None:
    """safe: the parties whose views tell nothing if a draw is left out; with all draws, all of them."""
    client, owner, dealer = {}, {}, {}
    for x0, x1, w in product(range(0, 8, 3), range(0, 8, 5), range(8)):
        views = linear_views(x0, x1, w, without)
        for found, known, view in zip((client, owner, dealer), ((x0,), (x1, w), ()), views, strict=True):
            found.setdefault(known, []).append(view)
    names = [
        name
        for name, found in zip(("client", "owner", "dealer"), (client, owner, dealer), strict=True)
        if all_same(found)
    ]
    assert " ".join(names) == safe


def beaver_views(x: tuple[int, int], y: tuple[int, int], without: str = "") -> tuple[Words, Words]:
    """The views of client and owner, of (x₀ + x₁)·(y₀ + y₁) mod 4, opened. without: a draw that is zero."""
    ring, names = 2, ["x D0", "x D1", "x A0", "y D0", "y D1", "y A0", "D0", "D1", "h0"]
    drawn = dict(zip(names, combinations(*(0 if name == without else ring for name in names)), strict=True))
    shape, chain, client, owner = drawn["D0"].shape, Chain(), {}, {}
    factors = []
    for name, (x0, x1) in (("x", x), ("y", y)):
        source = chain.given({"client": np.full(shape, x0), "owner": np.full(shape, x1)})
        factor = chain.add(MaskBoth, source, shape=shape, messages=1)
        client[factor.index, Purpose.MASK], client[factor.index, Purpose.FRESH] = (
            drawn[f"{name} D0"],
            drawn[f"{name} A0"],
        )
        owner[factor.index, Purpose.MASK] = drawn[f"{name} D1"]
        factors.append(factor)
    last = chain.add(Multiplied, *factors, shape=shape)
    opened = chain.add(Open, last, shape=shape, messages=1, shift=0, width=ring, early=False, high=ring)
    client[opened.index, Purpose.MASK], client[opened.index, Purpose.HIGH] = drawn["D0"], drawn["h0"]
    owner[opened.index, Purpose.MASK] = drawn["D1"]
    lift = chain.add(Lift, opened, shape=shape, opened=opened)
    secrets = {"k02": Listed(client), "k12": Listed(owner)}
    scene = Scene(chain.ready(lift, ring).steps, secrets).run()  # type: ignore[arg-type]
    talking = [*factors, opened]
    said = {role: [(scene.said[role, step.index], ring) for step in talking] for role in ("client", "owner")}
    own = [(words, ring) for (_, _), words in client.items()]
    dealt = [(received(words, ring), ring) for step in talking for words in scene.dealt[step.index]]
    return (
        distribution(*own, *said["owner"]),
        distribution(*((words, ring) for words in owner.values()), *dealt, *said["client"]),
    )


PAIRS = ((0, 0), (0, 1), (1, 0), (3, 2), (2, 2))


@pytest.mark.parametrize(
    "without, safe",
    [
        ("", "client owner"),
        ("x D0", "client"),
        ("x D1", "owner"),
        ("x A0", "client"),
        ("D0", "client"),
        ("D1", "owner"),
    ],
)
def test_a_product_of_two_secrets_that_is_opened_shows_both_nothing(without: str, safe: str) -> None:
    """Neither the product nor the opening is corrected: C = A_x·A_y goes into the mask r = D₀ + D₁ − C."""
    found: dict[str, dict[tuple[int, ...], list[Words]]] = {"client": {}, "owner": {}}
    for (x0, y0), (x1, y1) in product(PAIRS, PAIRS):
        views = beaver_views((x0, x1), (y0, y1), without)
        for role, known, view in zip(found, ((x0, y0), (x1, y1)), views, strict=True):
            found[role].setdefault(known, []).append(view)
    assert " ".join(role for role, views in found.items() if all_same(views)) == safe


def delegated_views(x: int, w: int, without: str = "") -> tuple[Words, Words, Words]:
    """The views of client, owner and of the client who is no party over all draws: x in two halves, times w, opened.

    All mod 4. without: a draw that is zero.
    """
    sizes = {"x0": 2, "A": 2, "F": 2, "D0": 2, "D1": 2, "h0": 2, "m0": 1, "rho": 2}
    drawn = dict(zip(sizes, combinations(*(0 if name == without else sizes[name] for name in sizes)), strict=True))
    shape, chain = drawn["A"].shape, Chain()
    entered = chain.add(EnteredInParts, shape=shape, name="x", scale=1)
    mask = chain.add(Mask, entered, shape=shape, messages=1, ahead=True)
    slot = chain.slot(shape, True)
    layer = chain.add(Diagonal, mask, shape=shape, slot=slot, ahead=True)
    opened = chain.add(Open, layer, shape=shape, messages=1, shift=0, width=2, early=True)
    lift = chain.add(Lift, opened, shape=shape, opened=opened)
    last = chain.add(OutputInParts, lift, shape=shape, name="y", scale=1, width=2)
    draws = {
        "A": (mask.index, Purpose.FRESH),
        "D0": (opened.index, Purpose.MASK),
        "h0": (opened.index, Purpose.HIGH),
        "rho": (last.index, Purpose.OTHER),
    }
    secrets = {
        "k02": Listed({place: drawn[name] for name, place in draws.items()}),
        "k12": Listed({(opened.index, Purpose.MASK): drawn["D1"]}),
    }
    weights = {"client": {slot: drawn["F"]}, "owner": {slot: np.full(shape, w)}, "dealer": {slot: w - drawn["F"]}}
    x1 = x - drawn["x0"]
    halves = {"client": {entered.index: drawn["x0"]}, "owner": {entered.index: x1}}
    scene = Scene(chain.ready(last, 2).steps, secrets, weights, entered=halves).run()  # type: ignore[arg-type]
    answers = [(role.values[last.index], 2) for role in (scene.client, scene.owner)]
    return (
        distribution(*((drawn[name], 2) for name in ("x0", "F", *draws)), (scene.said["owner", opened.index], 2)),
        distribution(
            *((words, 2) for words in (x1, drawn["F"], drawn["D1"], scene.said["client", mask.index])),
            (scene.halves[opened.index], 2),
            *((received(words, 2), 2) for index in (opened.index, last.index) for words in scene.dealt[index]),
        ),
        distribution(*answers),
    )


@pytest.mark.parametrize(
    "without, safe",
    [("", "client owner outside"), ("x0", "client outside"), ("A", "client outside"), ("rho", "client outside")],
)
def test_an_input_in_halves_shows_neither_party_anything_and_its_client_the_answer_alone(
    without: str, safe: str
) -> None:
    """Without ρ the owner would be dealt what the dealer alone may have of the answer."""
    views: dict[str, dict[tuple[int, ...], list[Words]]] = {"client": {}, "owner": {}, "outside": {}}
    for x, w in product(range(4), range(4)):
        known = ((), (w,), (x * w % 4,))
        for found, key, view in zip(views.values(), known, delegated_views(x, w, without), strict=True):
            found.setdefault(key, []).append(view)
    assert " ".join(role for role, found in views.items() if all_same(found)) == safe


def cut_views(kind: type[Open] | type[MaskBoth], z: tuple[int, int], without: str = "") -> tuple[Words, Words]:
    """The views of client and owner of z₀ + z₁, opened or masked with a bit cut off. without: a draw that is zero."""
    ring, kappa, names = 4, 3, ("D0", "D1", "s")
    bits = (0 if name == without else size for name, size in zip(names, (ring, ring, kappa), strict=True))
    drawn = dict(zip(names, combinations(*bits), strict=True))
    shape, chain = drawn["D0"].shape, Chain()
    source = chain.given({"client": np.full(shape, z[0]), "owner": np.full(shape, z[1])})
    if kind is Open:
        step = chain.add(Open, source, shape=shape, messages=1, shift=1, width=ring, early=False)
        chain.ready(chain.add(Lift, step, shape=shape, opened=step), kappa)
        step.high = kappa
    else:
        step = chain.add(MaskBoth, source, shape=shape, messages=1, shift=1)
        chain.ready(step, kappa)
    dealt = Purpose.HIGH if kind is Open else Purpose.FRESH
    client = {(step.index, Purpose.MASK): drawn["D0"], (step.index, dealt): drawn["s"]}
    secrets = {"k02": Listed(client), "k12": Listed({(step.index, Purpose.MASK): drawn["D1"]})}
    scene = Scene(chain.steps, secrets).run()  # type: ignore[arg-type]
    (given,) = scene.dealt[step.index]
    return (
        distribution((drawn["D0"], ring), (drawn["s"], kappa), (scene.said["owner", step.index], kappa)),
        distribution((drawn["D1"], ring), (given, kappa), (scene.said["client", step.index], kappa)),
    )


@pytest.mark.parametrize("without, safe", [("", "client owner"), ("D0", "client"), ("D1", "owner"), ("s", "client")])
@pytest.mark.parametrize("kind", [Open, MaskBoth])
def test_what_is_cut_before_it_is_sent_shows_both_nothing(
    kind: type[Open] | type[MaskBoth], without: str, safe: str
) -> None:
    found: dict[str, dict[tuple[int, ...], list[Words]]] = {"client": {}, "owner": {}}
    for z in product(range(16), range(16)):
        for role, known, view in zip(found, z, cut_views(kind, z, without), strict=True):
            found[role].setdefault((known,), []).append(view)
    assert " ".join(role for role, views in found.items() if all_same(views)) == safe
