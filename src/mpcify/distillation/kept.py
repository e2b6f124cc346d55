"""What became of a student in training: what was measured of it before, and of the checkpoint that is kept."""

from collections.abc import Iterator, Mapping

# a value's name in the log, its words, and whether more of it is better
VALUES = (
    ("selection_loss", "loss on the rows held out", False),
    ("selection_divergence", "divergence on the rows held out", False),
    ("evaluation_agreement", "answers equal to the teacher's on the evaluation examples", True),
    ("evaluation_accuracy", "accuracy on the evaluation examples", True),
    ("evaluation_pearson", "correlation on the evaluation examples", True),
)


def changes(start: Mapping[str, float], kept: Mapping[str, float]) -> Iterator[tuple[str, bool]]:
    """What both were measured by, as `words before → after`, and whether the checkpoint is worse in what is shown."""
    for name, words, rising in VALUES:
        if name in start and name in kept:
            before, after = (float(f"{value:.4g}") for value in (start[name], kept[name]))
            yield f"{words} {before:g} → {after:g}", after < before if rising else after > before
