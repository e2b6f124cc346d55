"""What differs from one family of models to the next, as data. A family that is not here needs no exception."""

from dataclasses import dataclass
from typing import Literal

from mpcify.errors import MpcifyError

Blocker = Literal["not-yet", "never", "config"]


class UnsupportedError(MpcifyError):
    """A model that cannot be converted (MPC-203).

    kind: `not-yet` (a later release may), `never` (no release can), or `config` (the user can mend it).
    """

    def __init__(self, where: str, what: str, remedy: str, kind: Blocker = "not-yet") -> None:
        super().__init__(203, where, what, remedy)
        self.kind = kind


@dataclass(frozen=True)
class PositionBias:
    """An attention that adds a learned B to its scores, S = QKᵀ/√d + B, and ignores a registered one.

    attention: its class; called with hidden states, mask and B, it reads `attention_head_size`. projections: its linear
    layers of queries, keys, values and output. method: what gives B (batch, heads, n, n) for hidden states
    (batch, n, H), as a path from the base model.
    """

    attention: str
    projections: tuple[str, str, str, str]
    method: str


@dataclass(frozen=True)
class Family:
    """Exceptions of a family.

    activation_field: where its config names the encoder's activation. position_bias: None if its attention goes through
    transformers' registry.
    """

    activation_field: str = "hidden_act"
    position_bias: PositionBias | None = None


PLAIN = Family()
FAMILIES: dict[str, Family] = {
    "distilbert": Family(activation_field="activation"),
    "mpnet": Family(
        position_bias=PositionBias("MPNetSelfAttention", ("q", "k", "v", "o"), "encoder.compute_position_bias")
    ),
}

# Families that are proven to work: the rest is accepted if a forward proves it.
TESTED = ("bert", "roberta", "distilbert", "electra", "mpnet", "vit")

TESTED_FAMILY = "use a model of a tested family"
TESTED_FAMILY_NAMED = f"{TESTED_FAMILY}: {', '.join(TESTED)}"

REFUSED: dict[str, str] = {
    "deberta": "its attention adds relative positions inside the scores",
    "deberta-v2": "its attention ignores a replacement and adds relative positions inside the scores",
    "gpt2": "it is a decoder",
    "gpt_neo": "it is a decoder",
    "llama": "it is a decoder",
    "mistral": "it is a decoder",
    "qwen2": "it is a decoder",
    "gemma": "it is a decoder",
    "opt": "it is a decoder",
    "t5": "it has a decoder, and a position bias in its attention",
    "bart": "it has a decoder",
    "modernbert": "its attention slides over a window",
    "longformer": "its attention slides over a window",
}

# A checkpoint's own activation, in the words of a recipe.
OWN_ACTIVATIONS: dict[str, str] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_python_tanh": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_accurate": "gelu-tanh",
    "relu": "relu",
}

# The end of a head's class, and whether it predicts a number: the task.
TASKS: dict[tuple[str, bool], str] = {
    ("ForSequenceClassification", False): "classification",
    ("ForSequenceClassification", True): "regression",
    ("ForImageClassification", False): "image-classification",
}

# Ends of classes without a head of ours, which can be fine-tuned to have one.
HEADLESS = ("Model", "ForMaskedLM", "ForPreTraining", "ForMaskedImageModeling", "ForNextSentencePrediction")


def family_of(model_type: str) -> Family:
    """The exceptions of a family; none if it is not in the table."""
    return FAMILIES.get(model_type, PLAIN)
