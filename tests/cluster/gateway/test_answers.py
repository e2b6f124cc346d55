"""What the gateway answers to those who may ask."""

import base64
import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mpcify
from mpcify.cluster.gateway.application import application
from mpcify.errors import MpcifyError
from tests.cluster.gateway.service import COST, TOKEN, FakeModel, serving, until
from tests.graph.bags import LENGTHS


def fits(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether a value is what a schema of the description says; only the words that the description uses are known."""
    known = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "minimum", "$ref"}
    assert schema.keys() <= known | {"description"}, schema
    if "$ref" in schema:
        return fits(value, whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole)
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float}
    others = schema.get("additionalProperties", True)
    own = schema.get("properties", {})
    return (
        ("type" not in schema or isinstance(value, types[schema["type"]]))
        and ("enum" not in schema or value in schema["enum"])
        and ("const" not in schema or value == schema["const"])
        and ("minimum" not in schema or value >= schema["minimum"])
        and ("items" not in schema or all(fits(item, schema["items"], whole) for item in value))
        and ("required" not in schema or value.keys() >= {*schema["required"]})
        and all(
            fits(item, own[name], whole) if name in own else others is not False and fits(item, others, whole)
            for name, item in (value.items() if isinstance(value, dict) and schema.get("type") == "object" else ())
        )
    )


def references(value: Any) -> set[str]:
    """Every $ref in a description."""
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_each_text_has_a_label_the_probability_of_each_and_its_padded_length() -> None:
    model = FakeModel(lambda items: [[0.0, 2.0] if item == "a good film" else [1.0, 0.0] for item in items])
    with serving(application(model, TOKEN)) as service:
        status, answer = service.ask(["a good film", "the film is dull " * 5])
    assert (status, [*answer]) == (200, ["format", "results", "lengths", "cost"])
    assert [result["label"] for result in answer["results"]] == ["positive", "negative"]
    assert answer["results"][0]["scores"]["positive"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert (answer["lengths"], answer["cost"]) == ([16, 24], COST.to_json())
    assert "good film" not in json.dumps(answer)


def test_pairs_go_in_together() -> None:
    asked: list[Any] = []
    model = FakeModel(lambda items: asked.extend(items) or [[0.0, 1.0]])
    with serving(application(model, TOKEN)) as service:
        assert service.ask([["a film", "the film"]])[0] == 200
    assert asked == [("a film", "the film")]


def test_a_regression_answers_with_a_value_on_its_own_route() -> None:
    model = FakeModel(lambda items: [[2.5]], "regression")
    with serving(application(model, TOKEN)) as service:
        status, answer = service.ask(["a film"], "/v1/regress")
        refused = service.ask(["a film"], "/v1/classify")
    assert (status, answer["results"]) == (200, [{"value": 2.5}])
    assert (refused[0], refused[1]["error"]["code"]) == (404, "MPC-709")
    assert "/v1/regress" in refused[1]["error"]["remedy"]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_description_says_what_is_sent(task: str) -> None:
    model = FakeModel((lambda items: [[2.5]]) if task == "regression" else None, task)
    with serving(application(model, TOKEN)) as service:
        _, whole = service.get("/openapi.json")
        (route,) = (path for path in whole["paths"] if path.startswith("/v1/"))
        answers = {"Answers": service.ask(["a film"], route)[1], "Error": service.ask([""], route)[1]}
        answers |= {"Alive": service.get("/health")[1], "Ready": service.get("/ready")[1]}
    assert whole["openapi"].startswith("3.1.")
    assert references(whole) == {f"#/components/schemas/{name}" for name in whole["components"]["schemas"]}
    for operations in whole["paths"].values():
        for operation in operations.values():
            assert operation["responses"].keys() >= {"200"}
    for name, answer in answers.items():
        assert fits(answer, {"$ref": f"#/components/schemas/{name}"}, whole), name
    assert not fits({**answers["Answers"], "input": "a film"}, {"$ref": "#/components/schemas/Answers"}, whole)


class Unready(FakeModel):
    """A model whose `ready` is a function."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self.work = work

    def ready(self) -> None:
        self.work()


@pytest.mark.parametrize("code", [703, 705])
def test_a_gateway_that_can_open_no_session_says_why(code: int) -> None:
    def fail() -> None:
        raise MpcifyError(code, "owner", "it is not as it should be", "mend it")

    with serving(application(Unready(fail), TOKEN)) as service:
        status, answer = service.get("/ready")
        assert service.get("/health") == (200, {"format": 1, "alive": True})
    assert (status, answer["error"]["code"]) == (503, f"MPC-{code}")
    assert (answer["error"]["where"], answer["error"]["what"]) == ("owner", "it is not as it should be")


def test_many_who_ask_whether_it_is_ready_wait_for_one_attempt() -> None:
    attempts, done = [], threading.Event()

    def attempt() -> None:
        attempts.append(1)
        done.wait(5)

    with serving(application(Unready(attempt), TOKEN)) as service, ThreadPoolExecutor(8) as pool:
        found = [pool.submit(service.get, "/ready") for _ in range(8)]
        until(lambda: attempts)
        assert service.get("/health")[0] == 200
        done.set()
        assert [future.result(5) for future in found] == [(200, {"format": 1, "ready": True})] * 8
    assert len(attempts) < 8  # the last ones may come when the first have their answer


def test_metrics_are_those_of_a_hook_and_no_route_without_one() -> None:
    with serving(application(FakeModel(), TOKEN, metrics=lambda: b"mpcify_ready 1\n")) as service:
        status, headers, body = service.send("GET", "/metrics")
    assert (status, body) == (200, b"mpcify_ready 1\n")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    with serving(application(FakeModel(), TOKEN)) as service:
        assert service.get("/metrics")[0] == 404


def test_a_model_that_was_exported_answers_as_it_does_without_a_gateway(exported: Path) -> None:
    texts = ["a good film", "a bad film film film film"]
    with mpcify.compile(exported, "plain", batch=2) as private:
        expected = private.classify(texts)
        with serving(application(private, TOKEN)) as service:
            _, answer = service.ask(texts)
            assert service.get("/ready")[0] == 200
            private.close()
            assert service.get("/ready")[0] == 503
            assert service.ask(texts)[1]["error"]["code"] == "MPC-506"
    assert [result["scores"] for result in answer["results"]] == [result["scores"] for result in expected]
    assert answer["lengths"] == [LENGTHS[0], LENGTHS[-1]]


def test_images_go_in_as_base64(checkpoint: Any) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    encoded = []
    for form in ("PNG", "JPEG", "BMP"):
        image.save(file := io.BytesIO(), form)
        encoded.append(base64.b64encode(file.getvalue()).decode())
    with mpcify.compile(checkpoint("vit"), "plain") as private, serving(application(private, TOKEN)) as service:
        status, answer = service.ask(encoded[:2])
        wrong = [service.ask([value]) for value in (encoded[2], "AAAA", "not base64!", 3)]
        expected = private.classify([image])
    assert (status, answer["lengths"]) == (200, [])
    assert answer["results"][0]["scores"] == pytest.approx(expected[0]["scores"])
    found = [(status, answer["error"]["code"]) for status, answer in wrong]
    assert found == [(422, "MPC-107"), (422, "MPC-107"), (400, "MPC-709"), (400, "MPC-709")]
