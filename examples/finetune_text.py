"""Fine-tune a text classifier: the teacher that mpcify then converts.

    python examples/finetune_text.py --model BASE --train train.csv --eval dev.csv OUT

BASE is a local folder or a hub name of any encoder; FILE is what every verb of mpcify reads: TSV, CSV or JSONL with the
columns `sentence` (or `sentence1`, `sentence2`) and `label`, or others that are named. The model's label names are
those of the training file; if all its labels are numbers, and not all whole, the model predicts a number.
--freeze-table keeps BASE's word embeddings as they are: public, so that the clients of a student distilled with `--base
BASE` look their tokens up themselves and learn nothing of the owner's. An interrupted run goes on where it stopped when
called again with --resume.
"""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from mpcify.conversion.rows import rows_of
from mpcify.data.files import Examples, check_labels, decimal, read_examples
from mpcify.data.metrics import metrics
from mpcify.errors import MpcifyError


def names_in(examples: Examples) -> list[str]:
    """The names of the labels in a file; whole numbers are names too, in their order. One name if they are decimals.

    Raises MPC-104 if all labels are the same.
    """
    names = {str(label).strip() for label in examples.labels or ()}
    values = [decimal(name) for name in names]
    if any(value is not None and value % 1 for value in values) and None not in values:
        return ["value"]
    if len(names) == 1:
        what = "all labels are the same, and a classifier needs two"
        raise MpcifyError(104, examples.source, what, "give examples of another label")
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int if numbers else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--text-column")
    parser.add_argument("--pair-column")
    parser.add_argument("--label-column")
    parser.add_argument("--epochs", type=float, help="default: 2; of a small file about 300 steps, at most 20 epochs")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--freeze-table", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    try:
        fine_tune(options)
    except MpcifyError as error:
        parser.exit(2, f"{error}\n")


def fine_tune(options: argparse.Namespace) -> None:
    """Trains, measures and writes the model. Raises MPC-1xx for the files."""
    columns = {name: getattr(options, name) for name in ("text_column", "pair_column", "label_column")}
    train, held_out = (read_examples(file, **columns) for file in (options.train, options.eval))
    names = names_in(train)
    regression = len(names) == 1
    if regression:
        print("the labels are decimals: the model predicts a number (regression)", file=sys.stderr)
    train, held_out = (check_labels(examples, names) for examples in (train, held_out))
    steps = math.ceil(len(train) / options.batch_size)
    epochs = min(max(2, math.ceil(300 / steps)), 20) if options.epochs is None else options.epochs
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    model.get_input_embeddings().weight.requires_grad_(not options.freeze_table)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=f"{options.out}-training",
            num_train_epochs=epochs,
            learning_rate=options.lr,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=64,
            warmup_steps=0.1,  # a share of the steps, so that a small file warms up too
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            logging_steps=100,
            save_steps=500,
            save_total_limit=1,
            eval_strategy="epoch",
            report_to="none",
            seed=options.seed,
        ),
        train_dataset=rows_of(train, model, tokenizer, options.max_length),
        eval_dataset=rows_of(held_out, model, tokenizer, options.max_length),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda answer: metrics(answer.predictions, answer.label_ids, regression).to_json(),
    )
    trainer.train(resume_from_checkpoint=options.resume)
    measured = trainer.evaluate()
    print(measured)
    trainer.model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    if regression:
        return
    most = Counter(held_out.labels or ()).most_common(1)[0][1] / len(held_out)
    if measured["eval_accuracy"] <= most:
        what = (
            f"accuracy {measured['eval_accuracy']:.3f} is not above always giving the most frequent label ({most:.3f})"
        )
        print(f"warning: {what}: raise --epochs, or train on more texts", file=sys.stderr)


if __name__ == "__main__":
    main()
