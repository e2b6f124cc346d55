"""From a request's bytes to the model's inputs, within bounds: nothing is read or decoded beyond them."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from PIL import Image
from starlette.requests import ClientDisconnect, Request

from mpcify.cluster.gateway.refusals import BAD_REQUEST, CLOSED, MEDIA_TYPE, TIMED_OUT, TOO_LARGE, RefusedError, refused
from mpcify.graph.about import MOST_PIXELS
from mpcify.requests.images import reading, unreadable

if TYPE_CHECKING:
    from mpcify.inference import PrivateModel

SHAPE = 'send {"inputs": ["a text", …]}, or pairs of texts'
IMAGE_SHAPE = 'send {"inputs": ["the base64 of a PNG or JPEG file", …]}'
FORMATS = ("PNG", "JPEG")
JSON = "application/json"


@dataclass(frozen=True)
class Bounds:
    """What one request may hold. body: bytes. inputs: how many. seconds: in which the body must be there."""

    body: int
    inputs: int = 64
    seconds: float = 30.0


TEXTS, IMAGES = Bounds(1 << 20), Bounds(8 << 20)


async def body_of(request: Request, bounds: Bounds, kind: str = JSON) -> bytes:
    """A request's body. Raises MPC-709 for one of another type, one that is too large, and one that does not come."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
        raise refused(MEDIA_TYPE, f"its body is not said to be {kind}", f"send Content-Type: {kind}")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced[:20]) > bounds.body:
        raise too_large(bounds)
    received = bytearray()
    try:
        with anyio.fail_after(bounds.seconds):
            async for piece in request.stream():
                if len(received) + len(piece) > bounds.body:
                    raise too_large(bounds)
                received += piece
    except TimeoutError:
        what = f"its body was not there within {bounds.seconds:.0f} s"
        raise refused(TIMED_OUT, what, "send it at once", Connection="close") from None
    except ClientDisconnect:
        raise refused(CLOSED, "its caller went away", "wait for the answer") from None
    return bytes(received)


def items_of(body: bytes, private: "PrivateModel", bounds: Bounds) -> list[Any]:
    """The texts, (text, text) pairs or images in a body. Raises MPC-709 for other JSON, MPC-107 for an image."""
    images = private.about.task.images
    shape = IMAGE_SHAPE if images else SHAPE
    given = parsed(body, shape)
    if not isinstance(given, dict) or given.keys() != {"inputs"} or not isinstance(given["inputs"], list):
        raise refused(BAD_REQUEST, 'it is no object with the one field "inputs", a list', shape)
    inputs = given["inputs"]
    if len(inputs) > bounds.inputs:
        what = f"it has {len(inputs)} inputs, at most {bounds.inputs} go together"
        raise refused(TOO_LARGE, what, "send several requests")
    if images:
        return [image_of(value, f"image {index + 1}") for index, value in enumerate(inputs)]
    return [text_of(value, f"input {index + 1}") for index, value in enumerate(inputs)]


def parsed(body: bytes, shape: str) -> Any:
    """A body's JSON, strictly: no NaN, no field twice, and no nesting that its reader cannot follow. Raises MPC-709."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=distinct, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise refused(BAD_REQUEST, "its body is not the JSON that is asked for", shape) from None


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's fields. Raises ValueError if one is there twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def refuse_constant(name: str) -> None:
    """Raises ValueError: NaN and the infinities are no JSON."""
    raise ValueError(name)


def text_of(value: Any, where: str) -> str | tuple[str, str]:
    """A text, or a pair of them. Raises MPC-709 for anything else."""
    match value:
        case str():
            return value
        case [str(first), str(second)]:
            return first, second
    raise refused(BAD_REQUEST, f"{where} is neither a text nor a pair of texts", SHAPE)


def image_of(value: Any, where: str) -> Image.Image:
    """A decoded image. Raises MPC-709 for what is not base64, MPC-107 for no PNG or JPEG, or more than 2²⁴ pixels."""
    try:
        content = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        content = None
    if content is None:
        raise refused(BAD_REQUEST, f"{where} is not base64", IMAGE_SHAPE)
    with reading(where):
        found = Image.open(io.BytesIO(content), formats=FORMATS)
        if found.width * found.height > MOST_PIXELS:
            raise unreadable(where, f"it is {found.width}×{found.height} pixels", "scale it down")
        found.load()
    return found


def too_large(bounds: Bounds) -> RefusedError:
    """The refusal of a body beyond its bounds."""
    what = f"its body is larger than {bounds.body} bytes"
    return refused(TOO_LARGE, what, "send fewer inputs at once", Connection="close")
