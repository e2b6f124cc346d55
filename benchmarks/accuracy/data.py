"""Texts of the tasks that no FOLDER has: reviews, tweets and tickets; and editorials.txt, general texts, one a line.

    python -m benchmarks.accuracy.data --data FOLDER [--task NAME --rows N]

Draws the rows of a task that learns from a part of its training file, and fetches MPNet-base for one that needs it.

Reviews of products, tweets and editorials are those that C. J. Hutto and E. Gilbert had rated from −4 to 4 (VADER: a
parsimonious rule-based model for sentiment analysis of social media text, ICWSM 2014); they lie in the source
distribution of the package vaderSentiment (MIT).
"""

import random
import tarfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.accuracy import fetch, mpnet, tickets
from benchmarks.accuracy.tasks import options
from mpcify.files import write_whole

PACKAGE = "vaderSentiment==3.3.2"
DIGEST = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
RATED = {"reviews": ("amazonReviewSnippets", 0.5), "tweets": ("tweets", 0.5)}  # the file, the least |rating|
DEV = 300
Rows = Iterable[tuple[str, object]]  # a text, its label


def package(folder: Path) -> Path:
    """The source distribution, downloaded into a folder unless it is there. Exits if it is not the one published."""
    path = folder / f"{PACKAGE.replace('==', '-')}.tar.gz"
    if not path.is_file():
        fetch.download(folder, PACKAGE, source=True)
    fetch.check(path, DIGEST, "remove it")
    return path


def rated(path: Path, name: str) -> list[tuple[str, float]]:
    """(text, mean rating) of one of the package's files."""
    inner = f"{path.name.removesuffix('.tar.gz')}/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(path) as outer, tarfile.open(fileobj=outer.extractfile(inner)) as files:
        text = files.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("utf-8-sig")
    cells = [line.split("\t") for line in text.splitlines()]
    return [(sentence.strip(), float(rating)) for _, rating, sentence in cells]


def split(found: list[tuple[str, float]], least: float) -> dict[str, Rows]:
    """Rows of dev and train, in random order: label 1 if the rating is above 0, else 0; none if |rating| < least."""
    rows = [(text, int(rating > 0)) for text, rating in found if abs(rating) >= least]
    random.Random(0).shuffle(rows)
    return {"dev": rows[:DEV], "train": rows[DEV:]}


def write(folder: Path, sets: dict[str, Rows]) -> None:
    """Writes each set as a TSV file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in sets.items():
        write_whole(folder / f"{name}.tsv", "sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))


def draw(source: Path, target: Path, count: int) -> None:
    """Writes so many rows of a TSV file, in random order, unless that is done. Exits if there are not so many."""
    if target.is_file():
        return
    header, *rows = source.read_bytes().rstrip(b"\r\n").split(b"\n")
    if len(rows) < count:
        raise SystemExit(f"{source}: it has {len(rows)} rows, fewer than {count}")
    random.Random(0).shuffle(rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, b"".join(line.rstrip(b"\r") + b"\n" for line in (header, *rows[:count])))


def main() -> None:
    given = options(__doc__)
    make(given.made)
    for task in given.tasks:
        if task.rows is not None:
            draw(Path(given.texts(task.source, "train")), Path(given.file(task, "train")), task.rows)
        if given.base_of(task) == str(given.mpnet):
            mpnet.fetch(given.mpnet)


def make(folder: Path) -> None:
    """Makes the texts that no FOLDER has, unless that is done."""
    last = folder / "editorials.txt"
    if last.is_file():
        return
    write(folder / "tickets", tickets.make())
    path = package(folder)
    for task, (name, least) in RATED.items():
        write(folder / task, split(rated(path, name), least))
    write_whole(last, "".join(f"{text}\n" for text, _ in rated(path, "nytEditorialSnippets")))


if __name__ == "__main__":
    main()
