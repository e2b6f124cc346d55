"""The page for people: one file, in which nothing comes from elsewhere and no script but its own runs."""

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from mpcify.cluster.gateway.description import CLASSIFY, REGRESS

if TYPE_CHECKING:
    from mpcify.inference import PrivateModel

FACTS = "{}</script>"  # where the page holds what it must know of the model


def page(private: "PrivateModel", simulated: bool) -> tuple[str, str]:
    """The page of a model, and the Content-Security-Policy that goes with it."""
    text = files("mpcify.cluster.gateway").joinpath("page.html").read_text(encoding="utf-8")
    (style,), (script,) = (re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("style", "script"))
    policy = (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    task = private.about.task
    facts = {
        "model": private.about.model,
        "recipe": private.about.recipe,
        "images": task.images,
        "route": REGRESS if task.numeric else CLASSIFY,
        "parties": [*private.engine.parties],
        "simulated": simulated,
    }
    return text.replace(FACTS, json.dumps(facts).replace("<", "\\u003c") + "</script>", 1), policy


def digest(content: str) -> str:
    """What a policy calls an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
