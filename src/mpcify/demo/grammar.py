"""A small language of reviews whose sentiment depends on order and context, and the data set drawn from it.

A sentence is built from the sign that it shall have, downwards: what turns a sign around (negation, "used to be",
"could have been", "nobody would say that ...") asks its inside for the opposite, and what sets two parts against each
other (contrast, asides, comparisons, weights) asks one part for each sign. So in most constructions every word stands
under both labels equally often, and counting words does not tell the labels apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


POSITIVE = words(
    "good great lovely funny clever superb charming gripping warm fresh graceful sincere vivid tender witty bold "
    "moving brilliant"
)
NEGATIVE = words(
    "bad weak dull boring stupid silly clumsy bland cold stale lifeless tedious shallow lazy noisy hollow tiresome "
    "dreadful"
)
WORKS = words("film movie story sequel drama comedy thriller musical")
NOUNS = (*WORKS, *words("plot acting cast script dialogue music score ending camera direction pacing"))
VERBS = words("is was seems looks")
STRONG = words("very truly deeply extremely utterly")
WEAK = words("slightly somewhat faintly mildly")

KEEP = (
    "{verb} {word}",
    "{verb} {strong} {word}",
    "is nothing but {word}",
    "is nothing short of {word}",
    "is still {word}",
)
FLIP = (
    "is not {word}",
    "was never {strong} {word}",
    "is hardly {word}",
    "is anything but {word}",
    "is far from {word}",
    "is no longer {word}",
    "used to be {strong} {word}",
    "could have been {word}",
)
AGREE = ("i think that", "nobody would deny that", "it is still true that", "i do not doubt that")
DENY = ("i do not think that", "nobody would say that", "it is not true that", "i doubt that")
# {main} has the sentence's sign, {other} the opposite one.
CONTRAST = (
    "although {other} , {main}",
    "{main} , although {other}",
    "{other} , but {main}",
    "{main} , even if {other}",
    "even if {other} , {main}",
    "while {other} , {main}",
)
EXPECT = (
    "instead of a {other} {work} we get a {main} one",
    "we get a {main} {work} instead of a {other} one",
    "i hoped for a {other} {work} and saw a {main} one",
    "this is a {main} {work} that was sold as a {other} one",
)


@dataclass(frozen=True)
class Review:
    """A sentence and its sentiment: 1 positive, 0 negative."""

    text: str
    label: int


def review(random: Random, label: int) -> Review:
    """A random sentence with the given label."""
    kinds: tuple[Callable[[Random, int], str], ...] = (
        clause,
        clause,
        clause,
        contrast,
        contrast,
        aside,
        expectation,
        weighing,
    )
    text = random.choice(kinds)(random, 1 if label else -1)
    return Review(text, label)


def adjective(random: Random, sign: int) -> str:
    return random.choice(POSITIVE if sign > 0 else NEGATIVE)


def predicate(random: Random, sign: int) -> str:
    """What is said of a noun: as it is, or turned around."""
    flips = random.random() < 0.5
    pattern = random.choice(FLIP if flips else KEEP)
    word = adjective(random, -sign if flips else sign)
    return pattern.format(word=word, verb=random.choice(VERBS), strong=random.choice(STRONG))


def clause(random: Random, sign: int, *, deep: bool = True) -> str:
    """A noun and its predicate; if `deep`, perhaps inside a judgement that agrees or denies (double negation)."""
    judged = deep and random.random() < 0.5
    denied = judged and random.random() < 0.5
    inside = f"the {random.choice(NOUNS)} {predicate(random, -sign if denied else sign)}"
    return f"{random.choice(DENY if denied else AGREE)} {inside}" if judged else inside


def contrast(random: Random, sign: int) -> str:
    """Two clauses of opposite sign: the main clause counts, wherever it stands."""
    deep = random.random() < 0.5
    main, other = clause(random, sign, deep=deep), clause(random, -sign, deep=not deep)
    return random.choice(CONTRAST).format(main=main, other=other)


def aside(random: Random, sign: int) -> str:
    """A relative clause of the opposite sign: a negation in it ends with it."""
    return f"the {random.choice(NOUNS)} , which {predicate(random, -sign)} , {predicate(random, sign)}"


def expectation(random: Random, sign: int) -> str:
    """What was expected against what was found."""
    main, other = adjective(random, sign), adjective(random, -sign)
    return random.choice(EXPECT).format(main=main, other=other, work=random.choice(WORKS))


def weighing(random: Random, sign: int) -> str:
    """Two properties of opposite sign: the one with the strong intensifier counts."""
    parts = [
        f"{random.choice(STRONG)} {adjective(random, sign)}",
        f"{random.choice(WEAK)} {adjective(random, -sign)}",
    ]
    random.shuffle(parts)
    nouns = random.sample(NOUNS, 2)
    return f"the {nouns[0]} is {parts[0]} and the {nouns[1]} is {parts[1]}"


def vocabulary() -> list[str]:
    """Every word that a sentence can hold, sorted."""
    patterns = words(" ".join((*KEEP, *FLIP, *AGREE, *DENY, *CONTRAST, *EXPECT)))
    fixed = {word for word in patterns if not word.startswith("{")}
    return sorted(fixed.union(POSITIVE, NEGATIVE, NOUNS, VERBS, STRONG, WEAK, ("the", "which", "and", ",")))


def data_set(sizes: tuple[int, ...], seed: int) -> tuple[list[Review], ...]:
    """Splits of the given sizes, each half positive, with no sentence twice in any of them; equal for equal seeds."""
    random, seen = Random(seed), set[str]()
    splits: tuple[list[Review], ...] = tuple([] for _ in sizes)
    for split, size in zip(splits, sizes, strict=True):
        while len(split) < size:
            drawn = review(random, len(split) % 2)
            if drawn.text not in seen:
                seen.add(drawn.text)
                split.append(drawn)
        random.shuffle(split)
    return splits


def write_tsv(path: Path, reviews: list[Review]) -> None:
    """A file with the columns `sentence` and `label`, as every verb reads it."""
    lines = ["sentence\tlabel", *(f"{item.text}\t{item.label}" for item in reviews)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
