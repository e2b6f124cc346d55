"""What a client makes of its user's texts or images. Needs no torch."""

from mpcify.graph.about import ImageFacts
from mpcify.graph.exported import Exported
from mpcify.requests.requests import Requests


def requests_of(exported: Exported) -> Requests:
    """The requests that an exported model answers. Raises MPC-203 and MPC-208 if a client cannot make them."""
    facts = exported.about.inputs
    if isinstance(facts, ImageFacts):
        from mpcify.requests.images import ImageRequests

        return ImageRequests(facts)
    from mpcify.requests.text import TextRequests

    if exported.tokenizer is None:
        raise ValueError("no client's folder was read")
    return TextRequests(exported.tokenizer, facts, exported.table, exported.lengths)
