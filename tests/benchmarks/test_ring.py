"""The ring engine beside SPU: what is compared with what, and what the page says of it."""

from typing import Any

import numpy as np
import pytest

from benchmarks import readme
from benchmarks.ring import NETWORKS, RUNS, Plaintext, Rival, compared, rivals_of, torch_alone
from mpcify.bench.benchmark import model_of
from mpcify.engines.cost import Cost
from mpcify.engines.ring.kernels import formulas, products, threads

SMALL = RUNS["minilm-16"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run of the benchmark."""
    monkeypatch.setattr(threads, "threads", lambda: 1)


def row(recipe: str, engine: str, seconds: float, ahead: float | None = None) -> dict[str, Any]:
    """A row of as many seconds; ahead: those of it that are ahead."""
    sent = {"client": 30, "owner": 10}
    offline = None if ahead is None else Cost(ahead, 40, 4, sent)
    spent = {} if ahead is None else {"client": 0.1, "owner": 0.3}
    over = dict.fromkeys(NETWORKS, seconds if ahead is None else seconds - ahead)
    about = {"recipe": recipe, "engine": engine, "protocol": None, "kernels": None, "seconds": [seconds]}
    return {**about, "cost": Cost(seconds, 80, 8, sent, offline=offline).to_json(), "processor": spent, "over": over}


def test_rows_are_compared_with_the_faster_exact_recipe_and_the_owner_with_plaintext() -> None:
    rows = [row("puma", "spu", 6.0), row("exact-tanh", "spu", 4.0), row("2quad-freediv", "ring", 2.0, ahead=1.5)]
    *_, found = compared(rows, {"2quad-freediv": 0.2})
    assert found["ratios"]["to"] == "exact-tanh"
    assert found["ratios"]["seconds"] == 2.0
    assert found["ratios"]["online"] == found["ratios"]["over"]["wan"] == 8.0
    assert found["ratios"]["plaintext"] == pytest.approx(1.5)


def test_exact_recipes_run_under_spu_and_students_under_both() -> None:
    rivals = rivals_of(SMALL)
    assert {engine for recipe, engine, _ in rivals if recipe in SMALL.exact} == {"spu"}
    for recipe in SMALL.students:
        assert [kernels for name, engine, kernels in rivals if (name, engine) == (recipe, "ring")] == [
            "native",
            "torch",
        ]


def test_without_the_native_library_products_are_torchs_or_numpys_and_formulas_numpys() -> None:
    words = np.arange(12).reshape(3, 4)
    with torch_alone():
        assert {*products.measured()} == {"torch", "torch32", "torch40", "torch48", "blas42", "blas64"}
        assert products.kernel(48).name not in products.NATIVE
        assert products.kernel(64).name in ("torch", "blas64")
        assert formulas.library() is None
        assert np.array_equal(formulas.unpack(formulas.pack(words, 40), 12, 40), words.reshape(-1))


def test_a_turn_has_the_processor_time_of_each_role_and_of_what_was_ahead() -> None:
    teacher = model_of("minilm", 1, 8)
    rival = Rival("2quad-freediv", "ring", "native", teacher, SMALL)
    outputs = [rival.run() for _ in range(2)][1]
    found = rival.row(outputs, outputs)
    assert found["processor"].keys() == {"client", "owner", "dealer", "ahead"}
    assert 0 < found["processor"]["owner"] < found["processor"]["ahead"] + found["processor"]["owner"]
    assert found["cost"]["online"]["bytes_per_party"]["dealer"] == 0 < found["cost"]["offline"]["bytes"]
    assert found["error"] == 0.0
    # 0.4 ms there and back, and what client and owner say in turns: more messages than either sends
    assert found["over"]["0.4,1"] - found["cost"]["online"]["seconds"] > 2e-4 * found["cost"]["online"]["rounds"]
    inside = sum(values["seconds"] for values in found["kinds"].values())
    assert inside == pytest.approx(found["cost"]["seconds"])
    for _, session, _ in rival.sections.values():
        session.close()


def test_two_threads_share_products_and_then_no_role_has_a_processor_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native = [found for found in products._fastest_first() if isinstance(found[0], products.Native)]
    if not native:
        pytest.skip("there is no native library, and others' products have threads of their own")
    monkeypatch.setattr(products, "_fastest_first", lambda: native)
    monkeypatch.setattr(products, "LEAST", 1)
    parts: list[int] = []
    shared = threads.shared
    monkeypatch.setattr(products, "shared", lambda *given: (parts.append(threads.threads()), shared(*given))[1])
    teacher, asked = model_of("minilm", 1, 8), RUNS["layer-128-two-threads"]
    rivals = [Rival("2quad-freediv", "ring", kernels, teacher, SMALL) for kernels in asked.kernels]
    outputs = [[rival.run() for _ in range(2)][1] for rival in rivals]
    one, two = (rival.row(outputs[0], outputs[0]) for rival in rivals)
    assert {*parts} == {1, 2}
    assert (len(one["processor"]), two["processor"]) == (4, {})
    *_, found = compared([row("puma", "spu", 6.0), one, two], {"2quad-freediv": 0.2})
    assert found["ratios"]["online"] == pytest.approx(6.0 / two["cost"]["online"]["seconds"])
    for rival in rivals:
        for _, session, _ in rival.sections.values():
            session.close()


def test_plaintext_is_timed_in_the_encoder_and_leaves_the_model_as_it_was() -> None:
    teacher = model_of("minilm", 1, 8)
    plaintext = Plaintext("the teacher", teacher, SMALL)
    plaintext.run()
    plaintext.run()
    assert len(plaintext.seconds) == 2
    assert min(plaintext.seconds) > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())


def test_the_page_says_what_is_online_and_of_which_party() -> None:
    rows = compared([row("puma", "spu", 6.0), row("2quad-freediv", "ring", 2.0, ahead=1.5)], {"2quad-freediv": 0.2})
    result = {"shape": "bert-base", "layers": 1, "length": 128, "batch": 1, "rows": rows, "plaintext": {"x": 0.04}}
    page = readme.beside("ring-layer-128", result)
    assert "| 2quad-freediv | ring | 2.000 | 0.500 | 3.0 | 12.0 | 12.0 | 12.0 | 0.0 | 0.0 | 0.0 | 4 | 1.50 |" in page
    assert "docs/pictures/ring-layer-128.png" in page
    assert "](pictures/ring-layer-128.png" in readme.beside("ring-layer-128", result, "../")
