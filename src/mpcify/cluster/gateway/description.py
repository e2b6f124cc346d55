"""What the gateway answers, as OpenAPI 3.1 describes it."""

from collections.abc import Mapping
from typing import Any

from mpcify import __version__
from mpcify.cluster.gateway.bodies import Bounds
from mpcify.cluster.halves import BINARY, COST, ID, LENGTH, PROGRAM, ROUTE
from mpcify.graph.about import Task

CLASSIFY, REGRESS = "/v1/classify", "/v1/regress"
NUMBER: dict[str, Any] = {"type": "number"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
WORDS: dict[str, Any] = {"type": "string"}
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
WRONG = {
    "400": "The body is not the JSON that is asked for.",
    "401": "The token is missing, or is not the gateway's.",
    "408": "The request did not come in time.",
    "413": "The body is too large, or has too many inputs.",
    "415": "The body is not said to be JSON.",
    "421": "The request is not for this machine's own address.",
    "422": "The model does not take an input: it is empty, too long, or no image.",
    "500": "The gateway or the engine failed.",
    "502": "A party refuses, disagrees, or breaks the protocol.",
    "503": "As many requests wait as may wait, or a party is gone; ask again.",
}


def description(task: Task, bounds: Bounds) -> dict[str, Any]:
    """The description of a gateway whose model has this task."""
    route, name = (REGRESS, "regress") if task.numeric else (CLASSIFY, "classify")
    return document("A model that several parties run.", {route: {"post": asking(name)}}, schemas(task, bounds))


def halves_description(sizes: Mapping[int, int]) -> dict[str, Any]:
    """The description of where thin clients leave halves of these sizes, by length."""
    told = ", ".join(f"{size} for length {length}" for length, size in sizes.items())
    heads = {ID: WORDS, LENGTH: {"type": "integer", "enum": [*sizes]}, PROGRAM: WORDS}
    binary = {BINARY: {"schema": {"type": "string", "format": "binary"}}}
    left = simple("leave", "This party's half of the answer.", "", **WRONG, **WRONG_HALF)
    left["responses"]["200"] |= {"content": binary, "headers": {COST: {"schema": WORDS}}}
    left |= {"security": [{"token": []}], "requestBody": {"required": True, "content": binary}}
    left["description"] = f"A half of a request; its bytes: {told}."
    left["parameters"] = [
        {"name": name, "in": "header", "required": True, "schema": kind} for name, kind in heads.items()
    ]
    told_of = simple("programs", "What runs here.", "Programs", **{"401": WRONG["401"]})
    told_of["security"] = [{"token": []}]
    programs = {"type": "object", "additionalProperties": WORDS}
    own = {"Programs": versioned(role=WORDS, programs=programs)}
    return document("Halves of requests that thin clients share.", {ROUTE: {"post": left, "get": told_of}}, own)


def document(what: str, paths: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a gateway that has these paths, and the schemas that they name, beside its probes."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "mpcify gateway", "version": __version__, "description": what},
        "paths": {
            **paths,
            "/health": {"get": simple("health", "The process lives.", "Alive")},
            "/ready": {
                "get": simple(
                    "ready", "A session is open.", "Ready", **{"503": "None is open, and none can be opened."}
                )
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**own, **COMMON},
        },
    }


WRONG_HALF = {"409": "The thin client's program is another, its id was used, or the other half is missing."}


def asking(name: str) -> dict[str, Any]:
    """The operation that asks the model."""
    body = {"required": True, "content": content("Request")}
    return {**simple(name, "The answers.", "Answers", **WRONG), "security": [{"token": []}], "requestBody": body}


def simple(name: str, good: str, schema: str, **wrong: str) -> dict[str, Any]:
    """An operation: what its answer holds if all is well, and what else may come of it."""
    failures = {status: {"description": what, "content": content("Error")} for status, what in wrong.items()}
    return {"operationId": name, "responses": {"200": {"description": good, "content": content(schema)}, **failures}}


def content(schema: str) -> dict[str, Any]:
    """JSON of a schema below."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def schemas(task: Task, bounds: Bounds) -> dict[str, Any]:
    """Every object that is sent."""
    pair = {"type": "array", "prefixItems": [TEXT, TEXT], "minItems": 2, "maxItems": 2}
    image = {"type": "string", "contentEncoding": "base64", "description": "A PNG or JPEG file."}
    inputs = {"items": image if task.images else {"anyOf": [TEXT, pair]}, "minItems": 1, "maxItems": bounds.inputs}
    scores = fields(**dict.fromkeys(task.labels, NUMBER))
    chosen = {"type": "string", "enum": [*task.labels]}
    cost = fields(seconds=NUMBER, bytes=COUNT, bytes_per_party=counts(), rounds=COUNT)
    another = {"$ref": "#/components/schemas/Cost"}
    cost["properties"] |= dict.fromkeys(("setup", "online", "offline"), another)
    lengths = {"type": "array", "items": COUNT, "description": "The padded length of each text, which all parties see."}
    result = fields(value=NUMBER) if task.numeric else fields(label=chosen, scores=scores)
    return {
        "Request": fields(inputs={"type": "array", **inputs}),
        "Answers": versioned(results={"type": "array", "items": result}, lengths=lengths, cost=another),
        "Cost": cost,
    }


def fields(**properties: Any) -> dict[str, Any]:
    """An object with these fields, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def versioned(**properties: Any) -> dict[str, Any]:
    """An object of this version of the format."""
    return fields(format={"const": 1}, **properties)


def counts() -> dict[str, Any]:
    """A count for each name."""
    return {"type": "object", "additionalProperties": COUNT}


COMMON = {
    "Error": versioned(error=fields(code=WORDS, where=WORDS, what=WORDS, remedy=WORDS)),
    "Alive": versioned(alive={"const": True}),
    "Ready": versioned(ready={"const": True}),
}
