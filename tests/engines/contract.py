"""What every engine keeps: the same answers as floats, and the same behaviour at a session's ends."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mpcify.engines.config import EngineConfig
from mpcify.engines.cost import Cost
from mpcify.engines.engine import Arrays, Engine, Party, Program
from mpcify.errors import MpcifyError
from mpcify.graph.build import Builder
from mpcify.network.memory import connect
from tests.engines.parties import alone, answer, join, measured, own, together
from tests.engines.samples import LOWERED, drawn_model, drawn_request, in_numpy, one_of_each


class EngineContract:
    """Give it a name that pytest collects, and a config.

    tolerance: of an answer. wide: how many times larger a wide request is than the others. refuses_not_finite: whether
    the engine looks at its inputs' values (else requests do). refuses: the kinds that it does not cover.
    """

    config: EngineConfig
    tolerance: float
    wide = 4.0
    refuses_not_finite = False
    refuses: frozenset[str] = frozenset()

    @pytest.fixture
    def engine(self) -> Engine:
        return self.config.build()

    @pytest.mark.parametrize("seed", range(3))
    def test_models_of_drawn_shapes_answer_as_floats_do(self, engine: Engine, seed: int) -> None:
        graph, weights = drawn_model(seed)
        inputs = drawn_request(graph, seed)
        with engine.compile(graph).load(weights) as session:
            outputs, _ = session.run(inputs)
        assert list(outputs) == ["logits"]
        np.testing.assert_allclose(outputs["logits"], in_numpy(weights, inputs), rtol=0, atol=self.tolerance)

    def test_a_request_costs_seconds_and_what_its_parties_send(self, engine: Engine) -> None:
        graph, weights = drawn_model(0)
        with engine.compile(graph).load(weights) as session:
            _, cost = session.run(drawn_request(graph, 0))
        assert cost.seconds > 0
        assert cost.setup is None
        for spent in (cost, session.setup):
            assert spent.bytes == sum(spent.bytes_per_party.values())
            assert tuple(spent.bytes_per_party) == engine.parties
            assert (spent.bytes > 0, spent.rounds > 0) == (bool(engine.parties),) * 2
            assert Cost.from_json(spent.to_json()) == spent

    def test_two_lengths_share_their_weights_and_a_wider_request_disturbs_no_other(self, engine: Engine) -> None:
        (short, weights), (long, others) = drawn_model(1, 2), drawn_model(1, 5)
        assert all(np.array_equal(weights[name], others[name]) for name in weights)
        with engine.compile(short).load(weights) as first, engine.compile(long).load(others, first) as second:
            assert second.setup.bytes == 0, "nothing is shared again"
            for session, size in ((first, 1.0), (second, 1.0), (second, self.wide), (first, self.wide), (first, 1.0)):
                inputs = drawn_request(session.graph, 3, size)
                outputs, _ = session.run(inputs)
                expected = in_numpy(weights, inputs)
                np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=2 * self.tolerance)

    def test_arrays_that_are_missing_or_misshapen_are_refused_by_name(self, engine: Engine) -> None:
        graph, weights = drawn_model(2)
        inputs = drawn_request(graph, 2)
        program = engine.compile(graph)
        with pytest.raises(MpcifyError, match=r"MPC-503 owner input up\.w"):
            program.load({name: value for name, value in weights.items() if name != "up.w"})
        with program.load(weights) as session:
            for wrong in ({"gate": inputs["gate"]}, {**inputs, "x": inputs["x"][..., :-1]}):
                with pytest.raises(MpcifyError, match=r"MPC-503 client input x: .* needed"):
                    session.run(wrong)
            outputs, _ = session.run(inputs)
        np.testing.assert_allclose(outputs["logits"], in_numpy(weights, inputs), rtol=0, atol=self.tolerance)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_inputs_that_are_not_finite_are_refused_if_the_engine_looks_at_them(
        self, engine: Engine, value: float
    ) -> None:
        graph, weights = drawn_model(2)
        inputs = drawn_request(graph, 2)
        inputs["x"][0, 0, 0] = value
        with engine.compile(graph).load(weights) as session:
            if self.refuses_not_finite:
                with pytest.raises(MpcifyError, match="MPC-402 client input x"):
                    session.run(inputs)
            else:
                assert session.run(inputs)[0]["logits"].shape == graph.shapes()["logits"]

    def test_a_closed_session_answers_nothing(self, engine: Engine) -> None:
        graph, weights = drawn_model(0)
        session = engine.compile(graph).load(weights)
        session.close()
        session.close()
        for ask in (session.run, session.profile):
            with pytest.raises(MpcifyError, match=r"MPC-503 .*its session has ended"):
                ask(drawn_request(graph, 0))

    def test_every_kind_runs_or_is_refused(self, engine: Engine) -> None:
        taken = [kind for kind in LOWERED if takes(engine, kind)]
        assert set(LOWERED) - set(taken) == self.refuses
        graph, inputs = one_of_each(taken)
        with engine.compile(graph).load({}) as session:
            outputs, _ = session.run(inputs)
        assert {name: array.shape for name, array in outputs.items()} == {
            f"{kind}.out": graph.shapes()[f"{kind}.out"] for kind in taken
        }
        assert all(np.isfinite(array).all() for array in outputs.values())

    def test_a_graph_that_is_not_lowered_is_refused(self, engine: Engine) -> None:
        builder = Builder(1, 2, layer=3, part="activation")
        x = builder.input("x", "client", (1, 2, 2))
        builder.emit("logits", "activation", (x,), activation="quad")
        with pytest.raises(MpcifyError, match=r"MPC-401 layer 3 activation \(logits\)"):
            engine.compile(builder.finish(None, ["logits"]))

    def test_its_settings_come_back_from_their_json(self, engine: Engine) -> None:
        assert type(self.config).from_json(self.config.to_json()) == self.config == engine.config
        assert (engine.name, engine.parties) == (self.config.name, self.config.parties)


def takes(engine: Engine, kind: str) -> bool:
    """Whether an engine covers a kind of operation; if not, it says so with one of two numbers."""
    try:
        engine.compile(one_of_each([kind])[0])
    except MpcifyError as error:
        if error.code not in (401, 501):
            raise
        return False
    return True


@dataclass(frozen=True)
class Opened:
    """Programs, their weights, their parties by role, and the sizes of all messages between these."""

    programs: list[Program]
    weights: Arrays
    parties: list[Mapping[str, Party]]
    sizes: list[int]


class PartyContract:
    """What parties keep, each joined alone, over links in memory: together they are a session.

    largest: how many times larger than the largest message `largest_message` may be.
    """

    config: EngineConfig
    tolerance: float
    largest: int

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls) -> Iterator[Opened]:
        """Two lengths of a model, joined over the same links, and the sizes of all messages."""
        engine = cls.config.build()
        links = connect(engine.parties, timeout=60)
        sizes = measured(links)
        programs, weights = [engine.compile(drawn_model(1, length)[0]) for length in (2, 5)], drawn_model(1, 2)[1]
        first = join(programs[0], links, weights)
        second = join(programs[1], links, None, first)
        yield Opened(programs, weights, [first, second], sizes)
        first["client"].close()

    def test_each_role_joined_alone_gives_what_a_session_gives(self, opened: Opened) -> None:
        for program, parties in zip(opened.programs, opened.parties, strict=True):
            inputs = drawn_request(program.graph, 3)
            for _ in range(2):
                found = answer(parties, inputs)
                outputs, cost = found["client"]
                expected = in_numpy(opened.weights, inputs)
                np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=self.tolerance)
                assert all(found[role][0] is None for role in parties if role != "client")
                assert all(spent.bytes_per_party == {role: spent.bytes} for role, (_, spent) in found.items())
                assert cost.bytes > 0

    def test_a_second_length_shares_no_weight_again(self, opened: Opened) -> None:
        parties = opened.parties[1]
        held = together(lambda role: parties[role].hold(alone(opened.weights, role, "owner")), parties)
        assert {role: cost.bytes for role, cost in held.items()} == dict.fromkeys(parties, 0)

    def test_no_message_is_larger_than_the_program_says_and_the_largest_is_not_far_from_it(
        self, opened: Opened
    ) -> None:
        for program, parties in zip(opened.programs, opened.parties, strict=True):
            answer(parties, drawn_request(program.graph, 3))
        bound = max(program.largest_message for program in opened.programs)
        assert max(opened.sizes) <= bound <= self.largest * max(opened.sizes)

    def test_each_role_refuses_what_is_another_roles_and_the_session_goes_on(self, opened: Opened) -> None:
        program, parties = opened.programs[0], opened.parties[0]
        inputs = drawn_request(program.graph, 4)
        for role, party in parties.items():
            for holder, give, given in (
                ("owner", party.hold, opened.weights),
                ("client", party.answer, inputs),
                ("client", party.profile, inputs),
            ):
                if role != holder:
                    with pytest.raises(MpcifyError, match=f"MPC-503 .*{role} was given .*, which {holder} alone holds"):
                        give(given)
        outputs, _ = answer(parties, inputs)["client"]
        expected = in_numpy(opened.weights, inputs)
        np.testing.assert_allclose(outputs["logits"], expected, rtol=0, atol=self.tolerance)

    def test_facts_are_json_and_equal_if_and_only_if_the_same_runs(self) -> None:
        engine = self.config.build()
        one, same, other = (engine.compile(drawn_model(1, length)[0]).facts() for length in (2, 2, 5))
        assert json.loads(json.dumps(one)) == one == same != other
        allowed = replace(self.config, force=not self.config.force)
        assert self.config.shared() == allowed.shared()

    def test_closing_one_ends_all_with_its_reason(self) -> None:
        engine = self.config.build()
        links = connect(engine.parties, timeout=60)
        graph, weights = drawn_model(0)
        first = join(engine.compile(graph), links, weights)
        second = join(engine.compile(graph), links, None, first)
        inputs = drawn_request(graph, 0)

        def act(role: str) -> object:
            return (
                second[role].close("the power failed")
                if role == "owner"
                else first[role].answer(own(first[role], inputs))
            )

        found = together(act, engine.parties)
        assert found.pop("owner") is None
        errors = [error for error in found.values() if isinstance(error, MpcifyError)]
        assert found["client"] in errors, "another may have done its part before"
        assert {(error.code, "the power failed" in error.what) for error in errors} == {(706, True)}
        with pytest.raises(MpcifyError, match=r"MPC-503 .*its session has ended"):
            first["owner"].answer(own(first["owner"], inputs))

    def test_links_of_another_role_or_to_others_and_another_sessions_party_are_refused(self) -> None:
        engine = self.config.build()
        program = engine.compile(drawn_model(0)[0])
        links, others = connect(engine.parties), connect(("client", "owner", "dealer", "fourth"))
        with pytest.raises(MpcifyError, match="MPC-501 role owner: the links are those of client"):
            program.join("owner", links["client"])
        with pytest.raises(MpcifyError, match=r"MPC-501 .*the links join owner, client, dealer, fourth"):
            program.join("owner", others["owner"])
