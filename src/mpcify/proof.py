"""The proof that a student's graph computes what the student computes, before it is written or run."""

import numpy as np
import torch
from transformers import PreTrainedModel

from mpcify.conversion.facts import longest_text, takes_images, takes_segments, word_table
from mpcify.conversion.families import TESTED
from mpcify.conversion.trace import refusing, sample_inputs, unproven
from mpcify.engines.plain import PlainEngine
from mpcify.graph.passes import lower
from mpcify.graph.trace import trace_graph
from mpcify.requests.images import sides, unfold


def prove_equal(student: PreTrainedModel) -> None:
    """Raises MPC-204 or MPC-401 unless a student's graph answers as torch does, to 1e-3, on two random requests.

    For families that no test covers; the second text is padded, and its halves have different token types.
    """
    if student.config.model_type in TESTED:
        return
    with refusing(student.config.model_type), torch.no_grad():
        length = 0 if takes_images(student) else min(16, longest_text(student))
        graph, weights = lower(*trace_graph(student, 2, length))
        model_inputs, inputs = random_requests(student, length)
        client = {item.name: inputs[item.name] for item in graph.role("client")}
        outputs, _ = PlainEngine().compile(graph).load(weights).run(client)
        expected = student.eval()(**model_inputs).logits.numpy()
    if not np.allclose(outputs["logits"], expected, rtol=1e-3, atol=1e-3):
        raise unproven(student.config.model_type, "the graph does not compute what the model computes")


def random_requests(student: PreTrainedModel, length: int) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """Two random requests, as a model takes them and as a graph does."""
    generator = torch.Generator().manual_seed(0)
    if takes_images(student):
        pixels = torch.randn(2, *sample_inputs(student)["pixel_values"].shape[1:], generator=generator)
        patch = sides(student.config.patch_size)
        return {"pixel_values": pixels}, {"patches": np.stack([unfold(image, patch) for image in pixels.numpy()])}
    words = len(student.get_input_embeddings().weight)
    padding = student.config.pad_token_id
    ids = torch.randint(words, (2, length), generator=generator)
    ids[ids == padding] = (padding or 0) + 1  # inside a text it would shift positions
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    if padding is not None:
        ids[mask == 0] = padding
    types = torch.zeros_like(ids)
    types[:, length // 4 :] = 1
    real = mask.numpy()[..., None].astype(float)
    inputs = {"mask": real, "share": 16 * real / real.sum(1, keepdims=True), "segment": types.numpy()[..., None]}
    inputs["embeddings"] = word_table(student)[ids.numpy()]
    model_inputs = {"input_ids": ids, "attention_mask": mask}
    return {**model_inputs, "token_type_ids": types} if takes_segments(student) else model_inputs, inputs
