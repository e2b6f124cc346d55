"""mpcify distill STUDENT OUT --teacher MODEL: the accuracy back."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from mpcify.cli.early import TRAINING, check_model, check_positive, check_student
from mpcify.cli.options import ColumnNames, Out
from mpcify.cli.verb import Answer, table, verb
from mpcify.distillation.precision import Precision
from mpcify.distillation.resume import look, training_folder
from mpcify.extras import require
from mpcify.files import refuse_taken
from mpcify.launch import read_launch

Student = Annotated[str, typer.Argument(metavar="STUDENT", help="A folder that `mpcify convert` wrote.")]
Teacher = Annotated[str, typer.Option(metavar="MODEL", help="The model that the student was converted from.")]
Train = Annotated[str, typer.Option(metavar="FILE", help="Training texts or images; labels only check the teacher.")]
Evaluation = Annotated[str, typer.Option("--eval", metavar="FILE", help="Measured, and never chosen on.")]
Texts = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="More texts to learn from: .txt (one a line), .tsv, .csv or .jsonl."),
]
Base = Annotated[
    str | None, typer.Option(metavar="BASE", help="The pretrained model whose public embedding table clients may hold.")
]
Epochs = Annotated[
    float | None,
    typer.Option(help="How often the training data is seen. Default: what gives 1,500 steps, but at least twice."),
]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows a step, of all processes together.")]
MaxLength = Annotated[int, typer.Option(min=2, metavar="TOKENS", help="Longer texts are cut in training.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Everything drawn by chance comes from it.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: the best at hand.")]
PrecisionOf = Annotated[
    Precision | None,
    typer.Option(help="Of matrix products in training. Default: bfloat16 where the device has it in hardware."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of an interrupted run.")]


@verb
def distill(
    student: Student,
    out: Out,
    columns: ColumnNames,
    teacher: Teacher,
    train: Train,
    evaluation: Evaluation,
    texts: Texts = None,
    base: Base = None,
    epochs: Epochs = None,
    lr: Rate = 1e-4,
    batch_size: BatchSize = 32,
    max_length: MaxLength = 128,
    seed: Seed = 0,
    device: Device = None,
    precision: PrecisionOf = None,
    resume: Resume = False,
) -> Answer:
    """Train a student to answer as its teacher does (calibrating it first), and write it with a model card."""
    read_launch()
    check_positive(epochs=epochs, lr=lr)
    if device not in (None, "cpu", "cuda", "mps"):
        raise typer.BadParameter(f"{device} is none of cpu, cuda and mps", param_hint="--device")
    refuse_taken(out)
    look(training_folder(out), resume)
    from mpcify.data.files import read_examples, read_texts

    examples = read_examples(train, labels=False, **columns.keywords())
    held_back = read_examples(evaluation, **columns.keywords())
    others = None if texts is None else read_texts(texts)
    for name in (teacher, *([] if base is None else [base])):
        check_model(name)
    check_student(student)
    require(*TRAINING)
    from mpcify.distillation import distill as distillation
    from mpcify.distillation.settings import Settings
    from mpcify.measure.provenance import command

    settings = Settings(epochs, lr, batch_size, max_length, seed, base, device, precision=precision)
    result = distillation.distill(
        student,
        teacher,
        examples,
        held_back,
        out,
        settings,
        texts=others,
        resume=resume,
        command=command(),
    ).to_json()
    return Answer(result, table(f"{out}: {result['recipe']}", ("", "teacher", "student"), metric_rows(result)))


def metric_rows(result: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What was measured on the evaluation file."""
    for name, value in result["student"].items():
        if (theirs := result["teacher"][name], value) != (None, None):
            yield name, *("–" if shown is None else f"{shown:.4f}" for shown in (theirs, value))
    yield "equal answers", "", f"{result['agreement']:.4f}"
