"""Texts that a student was not distilled on: its task's dev made shorter, longer or disordered, and other domains."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.accuracy.tasks import Task
from mpcify.data.files import Examples

LIMIT = 400  # texts a set
DOMAINS = ("sst2", "mrpc", "trec")
SENTIMENT = ("sst2", "reviews", "tweets")  # their labels mean the same: 0 is bad, 1 is good
QUESTIONS = Path(__file__).with_name("questions.txt")  # short ones, as users type them
Read = Callable[[str, str], Examples]  # of a folder of texts, one file


def sets_of(task: Task, read: Read) -> dict[str, Examples]:
    """The sets of a task by name, `dev` first; labels where they mean what the task's own do, else None.

    Made of dev: the first 3 or 6 words of each text (of both, if they are pairs), each with the next one or three
    behind it, and all words in random order. Others: dev of another task (of pairs the first), questions.txt, and the
    short tickets. For a task of pairs each text of another one stands beside the next.
    """
    dev = drawn(read(task.source, "dev"))
    chance = random.Random(0)
    if dev.kind == "pair":
        sets = {
            "words-6": [tuple(map(first(6), pair)) for pair in dev.texts],
            "shuffled": [tuple(shuffled(text, chance) for text in pair) for pair in dev.texts],
            **{name: beside(drawn(read(name, "dev")).texts) for name in ("trec", "sst2")},
        }
        return {"dev": dev} | {name: unlabelled(texts, "pair", name) for name, texts in sets.items()}
    sets = {
        "words-3": list(map(first(3), dev.texts)),
        "words-6": list(map(first(6), dev.texts)),
        "joined-2": joined(dev.texts, 2),
        "joined-4": joined(dev.texts, 4),
        "shuffled": [shuffled(text, chance) for text in dev.texts],
    }
    made = {"dev": dev} | {name: unlabelled(texts, "single", name) for name, texts in sets.items()}
    for name in others(task.source):
        found = drawn(read(name, "dev"))
        same = task.source in SENTIMENT and name in SENTIMENT
        texts = [text if isinstance(text, str) else text[0] for text in found.texts]
        made[name] = found if same else unlabelled(texts, "single", name)
    questions = QUESTIONS.read_text(encoding="utf-8").splitlines()
    made["questions"] = unlabelled(questions, "single", "questions")
    if task.source == "tickets":
        made["short"] = read("tickets", "short")
    return made


def others(source: str) -> list[str]:
    """The other tasks whose texts a student of one-sentence texts is asked about."""
    names = (*DOMAINS, *SENTIMENT) if source == "sst2" else DOMAINS
    return [name for name in dict.fromkeys(names) if name != source]


def drawn(examples: Examples) -> Examples:
    """At most LIMIT of the examples: the first of a shuffle with seed 0."""
    places = list(range(len(examples)))
    random.Random(0).shuffle(places)
    return examples.select(places[:LIMIT])


def unlabelled(texts: list[Any], kind: Any, name: str) -> Examples:
    """Texts, or pairs, without labels, none of them twice."""
    return Examples(kind, list(dict.fromkeys(texts)), None, name)


def first(count: int) -> Callable[[str], str]:
    """The first words of a text."""
    return lambda text: " ".join(text.split()[:count])


def joined(texts: list[str], count: int) -> list[str]:
    """Each text with the next ones behind it; after the last comes the first."""
    return [" ".join(texts[(start + step) % len(texts)] for step in range(count)) for start in range(len(texts))]


def beside(texts: list[str]) -> list[tuple[str, str]]:
    """Each text and the next, as a pair."""
    return list(zip(texts, [*texts[1:], texts[0]], strict=True))


def shuffled(text: str, chance: random.Random) -> str:
    """The words of a text in random order."""
    words = text.split()
    chance.shuffle(words)
    return " ".join(words)
