"""The inputs that a client makes of its requests: their names, their shapes, and the scale of one of them."""

from mpcify.errors import MpcifyError
from mpcify.graph.about import About, ImageFacts

MASK_SCALE = 16.0  # a key's share is μ = 16·M/m: M/m itself would lose log₂ m bits in fixed point
PATCHES = "patches"
LOOKED_UP = {"client": "embeddings", "one-hot": "tokens"}  # About.embeddings: the input that holds the tokens
EMBEDDINGS = tuple(LOOKED_UP)  # what a user may choose
MOST_BATCH = 4096  # requests at once: 512 tokens of each still fit a graph of BERT-base


def refuse_tables(embeddings: str) -> None:
    """Raises MPC-405 for embeddings that a model of images does not have."""
    if embeddings != "client":  # which is what is meant if nothing is said
        what = "images are not looked up in a table"
        raise MpcifyError(405, f"embeddings {embeddings}", what, "leave --embeddings out")


def refuse_lengths(*lengths: int) -> None:
    """Raises MPC-405 for a padded length of images."""
    for length in lengths:
        raise MpcifyError(405, f"length {length}", "images are all of one size", "leave --length out")


def client_shape(name: str, about: About, batch: int, length: int, width: int) -> tuple[int, ...] | None:
    """The shape of a client's input by its name; None for one that no request of such a model has.

    batch: B requests. length: n tokens. width: E, of the embedding table.
    embeddings (B, n, E) or tokens (B, n, words), as `about.embeddings` says; segment, mask and share (B, n, 1);
    patches (B, N, P).
    """
    facts = about.inputs
    if isinstance(facts, ImageFacts):
        return (batch, *facts.patches) if name == PATCHES else None
    shapes = {
        LOOKED_UP[about.embeddings]: facts.vocabulary if about.embeddings == "one-hot" else width,
        "segment": 1,
        "mask": 1,
        "share": 1,
    }
    return (batch, length, shapes[name]) if name in shapes else None
