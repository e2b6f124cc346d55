"""How far one gets by counting words: what the demo's task must not give away."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mpcify.demo.grammar import Review, vocabulary


def bag_of_words(train: Sequence[Review], test: Sequence[Review]) -> float:
    """Test accuracy of a logistic regression on word counts, with scikit-learn's default penalty ‖w‖²/2 on Σ loss."""
    inputs, labels = counts(train)
    weight, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        misfit = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weight + bias, labels, reduction="sum")
        total = (misfit + weight.square().sum() / 2) / len(labels)
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]
    inputs, labels = counts(test)
    return int((((inputs @ weight + bias) > 0) == (labels > 0)).sum()) / len(labels)


def counts(reviews: Sequence[Review]) -> tuple[Tensor, Tensor]:
    """How often each word stands in each sentence (N, words), and the labels (N,)."""
    places = {word: index for index, word in enumerate(vocabulary())}
    table = torch.zeros(len(reviews), len(places))
    for row, review in zip(table, reviews, strict=True):
        for word in review.text.split():
            row[places[word]] += 1
    return table, torch.tensor([float(review.label) for review in reviews])
