"""The models that `bench` makes up: what their cost depends on, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

from mpcify.errors import MpcifyError

SHAPES: Mapping[str, dict[str, int]] = {
    "bert-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "bert-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}
POSITIONS = 512  # of each of them
NAIVE = "naive"  # a recipe of `bench` alone: JAX's own softmax and GeLU


def check_shape(shape: str, layers: int | None, longest: int) -> None:
    """Raises MPC-501 for a shape that there is not, for some layers of a checkpoint and for more than a shape has,
    MPC-405 for too long a text.
    """
    known = ", ".join(SHAPES)
    if shape not in SHAPES:
        if not Path(shape).is_dir():
            remedy = f"use one of {known}, or the folder of a checkpoint"
            raise MpcifyError(501, f"shape {shape}", "there is no such shape", remedy)
        if layers is not None:
            what = "a checkpoint runs whole"
            raise MpcifyError(501, f"layers {layers}", what, f"leave --layers out, or use one of {known}")
        return
    if layers is not None and layers > (most := SHAPES[shape]["num_hidden_layers"]):
        raise MpcifyError(501, f"layers {layers}", f"{shape} has {most}", f"use --layers from 1 to {most}")
    if longest > POSITIONS:
        remedy = f"use a length of at most {POSITIONS}"
        raise MpcifyError(405, f"length {longest}", f"{shape} has {POSITIONS} positions", remedy)
