"""Fine-tune a text classifier: the teacher that mpcify then converts.

    python examples/finetune_text.py --model BASE --train train.tsv --eval dev.tsv OUT

BASE is a local folder or a hub name of any encoder; FILE has the columns `sentence` (or `sentence1`, `sentence2`)
and `label`, tab-separated, without quoting. --freeze-table keeps BASE's word embeddings as they are: public, so that
the clients of a student distilled with `--base BASE` look their tokens up themselves and learn nothing of the owner's.
An interrupted run goes on where it stopped when called again with --resume.
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


def read(path: Path) -> Dataset:
    """Rows of a tab-separated file with a header line, read without quoting."""
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    names = header.split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines if line]
    return Dataset.from_list([{**row, "label": int(row["label"])} for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--freeze-table", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()

    data = DatasetDict({"train": read(options.train), "eval": read(options.eval)})
    texts = [name for name in ("sentence", "sentence1", "sentence2") if name in data["train"].column_names]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    encoded = data.map(
        lambda rows: tokenizer(*(rows[name] for name in texts), truncation=True, max_length=options.max_length),
        batched=True,
        remove_columns=texts,
    )
    labels = len(set(data["train"]["label"]))
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=labels)
    model.get_input_embeddings().weight.requires_grad_(not options.freeze_table)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=f"{options.out}-training",
            num_train_epochs=options.epochs,
            learning_rate=options.lr,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=64,
            warmup_steps=100,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            logging_steps=100,
            save_steps=500,
            save_total_limit=1,
            eval_strategy="epoch",
            report_to="none",
            seed=options.seed,
        ),
        train_dataset=encoded["train"],
        eval_dataset=encoded["eval"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda answer: {"accuracy": float(np.mean(answer.predictions.argmax(-1) == answer.label_ids))},
    )
    trainer.train(resume_from_checkpoint=options.resume)
    print(trainer.evaluate())
    trainer.model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
