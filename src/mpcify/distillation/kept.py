"""What became of a student in training: what was measured of it before, and of the checkpoint that is kept."""

from collections.abc import Iterator, Mapping

# a value's name in the log, its words, and whether more of it is better
VALUES = (
    ("selection_loss", "loss on the rows held out", False),
    ("selection_divergence", "divergence there", False),
    ("evaluation_agreement", "answers equal to the teacher's on the evaluation examples", True),
    ("evaluation_accuracy", "accuracy there", True),
    ("evaluation_pearson", "correlation there", True),
)


def changes(start: Mapping[str, float], kept: Mapping[str, float]) -> Iterator[tuple[str, bool]]:
    """What both were measured by, as `words before → after`, and whether the checkpoint is worse in it."""
    for name, words, rising in VALUES:
        if name in start and name in kept:
            before, after = start[name], kept[name]
            yield f"{words} {before:.4g} → {after:.4g}", after < before if rising else after > before
