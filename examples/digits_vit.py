"""Train a small ViT on scikit-learn's digits: an image classifier that mpcify then converts.

    python examples/digits_vit.py OUT

OUT/teacher is a Hugging Face checkpoint with its image processor; OUT/train.tsv and OUT/test.tsv name the PNG files in
OUT/images (columns `image` and `label`). From there every verb runs as on any model:

    mpcify convert OUT/teacher OUT/converted --recipe 2quad-freediv --calibration OUT/train.tsv
    mpcify distill OUT/converted OUT/student --teacher OUT/teacher --train OUT/train.tsv --eval OUT/test.tsv --epochs 20
    mpcify evaluate OUT/student --data OUT/test.tsv --limit 64 --engine spu
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

SIDE, PATCH, TEST = 8, 2, 360  # pixels, pixels, and how many of the 1,797 digits are kept for the test


def make_images(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Writes every digit, in random order, as a PNG file; pixels (N, 8, 8) from 0 to 255, and labels (N,)."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    pixels = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)
    (folder / "images").mkdir(parents=True)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{index:04}.png")
    return pixels, digits.target[order]


def write_tsv(path: Path, labels: np.ndarray, first: int) -> None:
    """A table of images and labels, numbered from `first`."""
    rows = (f"images/{first + index:04}.png\t{label}" for index, label in enumerate(labels))
    path.write_text("\n".join(["image\tlabel", *rows]) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    pixels, labels = make_images(options.out, options.seed)
    processor = ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_resize=False, image_mean=[0.5], image_std=[0.5]
    )
    images = processor(list(pixels[..., None]), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    targets = torch.from_numpy(labels)
    count = len(images) - TEST

    model = ViTForImageClassification(
        ViTConfig(
            image_size=SIDE,
            patch_size=PATCH,
            num_channels=1,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            initializer_range=0.1,  # so narrow a model barely starts from ViT's 0.02
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label={digit: str(digit) for digit in range(10)},
            label2id={str(digit): digit for digit in range(10)},
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.05)
    steps = options.epochs * (count // options.batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=0.1)
    for epoch in range(options.epochs):
        model.train()
        order = torch.randperm(count)
        for start in range(0, count - options.batch_size + 1, options.batch_size):
            chosen = order[start : start + options.batch_size]
            loss = model(images[chosen], labels=targets[chosen]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}/{options.epochs}: loss {loss.item():.4f}")
    model.eval()
    with torch.no_grad():
        answers = model(images[count:]).logits.argmax(-1)
    print(f"test accuracy: {(answers == targets[count:]).float().mean():.4f}")

    model.save_pretrained(options.out / "teacher")
    processor.save_pretrained(options.out / "teacher")
    write_tsv(options.out / "train.tsv", labels[:count], 0)
    write_tsv(options.out / "test.tsv", labels[count:], count)


if __name__ == "__main__":
    main()
