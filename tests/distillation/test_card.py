"""A student's card says how it came to be: which checkpoint is kept, and what training changed."""

from mpcify.distillation.card import making
from mpcify.distillation.settings import Distilled, Settings
from mpcify.graph.about import task_named


def made(best: float) -> str:
    """What a card says of a run of two epochs, whose best is as given."""
    epochs = [
        {"epoch": 0.0, "selection_loss": 0.6559, "selection_divergence": 0.065, "evaluation_accuracy": 0.717},
        {"epoch": 1.0, "selection_loss": 0.7, "selection_divergence": 0.09, "evaluation_accuracy": 0.7},
        {"epoch": 2.0, "selection_loss": 0.6599, "selection_divergence": 0.06, "evaluation_accuracy": 0.633},
    ]
    task, name = task_named("classification", ("bad", "good")), "2quad-freediv"
    known = {"agreement": 0.9, "examples": 8, "evaluation_source": "dev.tsv", "train_examples": 40, "seconds": 1.0}
    known |= {"train_source": "train.tsv", "held_out": 10, "general_texts": 0, "base": None}
    result = Distilled("out", name, task, "teacher", {}, {}, best_epoch=best, epochs=epochs, **known)
    return making(result, Settings(epochs=2.0), {"mpcify": "0"}, None)


def test_of_a_trained_student_it_says_what_training_changed() -> None:
    text = made(2.0)
    assert "| best checkpoint | after epoch 2 of 2, of least loss on the rows held out after an epoch |" in text
    became = (
        "loss on the rows held out 0.6559 → 0.6599, divergence on the rows held out 0.065 → 0.06, "
        "accuracy on the evaluation examples 0.717 → 0.633"
    )
    assert f"| as calibrated → kept | {became} |" in text
    assert "| taught on | the texts, and as many pieces" in text
    assert "then distilled" in text


def test_of_a_calibrated_student_it_says_no_training() -> None:
    text = made(0.0)
    assert (
        "| best checkpoint | as calibrated, before the first epoch of 2, of least loss on the rows held out |" in text
    )
    assert "| taught on | what calibration saw alone |" in text
    assert "→" not in text
    assert "then distilled" not in text
