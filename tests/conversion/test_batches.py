"""What of a user's batch a model is run on; what no request could be is refused with its reason."""

from typing import Any

import pytest
import torch

from mpcify.conversion.batches import model_inputs
from mpcify.errors import MpcifyError

IDS = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
TEXT = {"input_ids": IDS, "attention_mask": MASK}
WIDE = torch.ones(1, 41, dtype=torch.long)


def test_columns_that_forward_does_not_name_are_dropped_and_labels_too(teacher: Any) -> None:
    batch = {**TEXT, "token_type_ids": IDS * 0, "labels": IDS[:, 0], "idx": IDS[:, 0], "sentence": IDS}
    assert list(model_inputs(teacher("bert"), batch)) == ["input_ids", "attention_mask", "token_type_ids"]
    assert list(model_inputs(teacher("distilbert"), batch)) == ["input_ids", "attention_mask"]


def test_columns_of_padding_alone_are_dropped(teacher: Any) -> None:
    padded = {name: torch.nn.functional.pad(value, (0, 60)) for name, value in TEXT.items()}
    assert all(torch.equal(value, TEXT[name]) for name, value in model_inputs(teacher("bert"), padded).items())


@pytest.mark.parametrize(
    "code, change, family",
    [
        (103, {"input_ids": None}, "bert"),
        (103, {"position_ids": IDS}, "bert"),
        (103, {"inputs_embeds": IDS}, "distilbert"),
        (103, {"attention_mask": MASK[:, :3]}, "bert"),
        (103, {"input_ids": [[2, 5, 3], [2, 3]]}, "bert"),
        (103, {"input_ids": IDS.float()}, "bert"),
        (103, {"attention_mask": MASK.flip(1)}, "bert"),
        (105, {"attention_mask": MASK * 0}, "bert"),
        (105, {"attention_mask": MASK * torch.tensor([[1], [0]])}, "bert"),
        (106, {"input_ids": WIDE, "attention_mask": WIDE}, "bert"),
        (106, {"input_ids": WIDE[:, :40], "attention_mask": None}, "roberta"),
        (108, {"input_ids": IDS[:0], "attention_mask": MASK[:0]}, "bert"),
        (111, {"input_ids": IDS * (IDS != 5)}, "roberta"),
        (208, {"input_ids": IDS + 10}, "bert"),
        (208, {"input_ids": IDS - 3}, "bert"),
        (208, {"token_type_ids": IDS * 0 - 1}, "bert"),
        (208, {"token_type_ids": IDS * 0 + 2}, "bert"),
        (208, {"token_type_ids": IDS * 0 + 1}, "roberta"),
    ],
)
def test_what_no_request_could_be_is_refused(code: int, change: dict[str, Any], family: str, teacher: Any) -> None:
    batch = {name: value for name, value in {**TEXT, **change}.items() if value is not None}
    with pytest.raises(MpcifyError) as caught:
        model_inputs(teacher(family), batch)
    assert caught.value.code == code


def test_a_third_token_type_is_refused_though_the_model_has_it(teacher: Any) -> None:
    with pytest.raises(MpcifyError, match=r"MPC-208 .*above 1"):
        model_inputs(teacher("bert", type_vocab_size=3), {**TEXT, "token_type_ids": IDS * 0 + 2})


def test_images_of_another_shape_are_refused(teacher: Any) -> None:
    assert list(model_inputs(teacher("vit"), {"pixel_values": torch.zeros(2, 1, 8, 8)})) == ["pixel_values"]
    with pytest.raises(MpcifyError, match=r"MPC-103 .*1 × 8 × 8"):
        model_inputs(teacher("vit"), {"pixel_values": torch.zeros(2, 3, 8, 8)})
