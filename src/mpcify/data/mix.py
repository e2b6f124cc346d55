"""What a student is taught on: the user's texts, and pieces of them of every length up to a longest one.

Without division a student is near its teacher only on texts like those that it was taught on, and any text teaches,
since the teacher answers it. So an epoch is every text as it is, and as many pieces: cut, joined, or with words taken
from the whole vocabulary. Texts of a general kind, if there are any, give half of the pieces.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

Text = str | tuple[str, str]
Words = list[str]

# the letters of writing without spaces: South-East Asian, Tibetan, Chinese, Japanese; a word each, but U+3000, a space
UNSPACED = (
    "\u0e00-\u109f\u1780-\u17ff\u2e80-\u2fff\u3001-\ua4cf\uf900-\ufaff\uff00-\uffef"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
LETTER = re.compile(f"[{UNSPACED}]")
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
PASSAGE = 64  # characters for each word of a piece


def is_unspaced(word: str) -> bool:
    """Whether a word is of a language that parts no words by spaces."""
    return LETTER.match(word) is not None


def words_of(text: str) -> Words:
    """The words of a text; its characters in a language that parts no words by spaces."""
    return WORD.findall(text)


def text_of(words: Words) -> str:
    """Words as a text, a space between two that spaces part."""
    text = ""
    for before, word in zip(["", *words], words, strict=False):
        text += word if not before or is_unspaced(before) or is_unspaced(word) else f" {word}"
    return text


def doubling(chance: random.Random, least: int, most: int) -> int:
    """A whole number between two; each doubling is as likely as another."""
    return round(math.exp(chance.uniform(math.log(least), math.log(max(least, most)))))


@dataclass(frozen=True)
class Mix:
    """Texts to teach on, epoch by epoch, all by the seed: another epoch has other pieces.

    texts: the user's, single or in pairs. general: others, if any. vocabulary: words to swap in. longest: words of a
    piece. repeats: how often a text comes in an epoch, and a piece of it.
    """

    texts: Sequence[Text]
    general: Sequence[str] = ()
    vocabulary: Sequence[str] = ()
    longest: int = 96
    repeats: int = 1
    seed: int = 0

    def __len__(self) -> int:
        return 2 * self.repeats * len(self.texts)

    def pieces(self, epoch: int) -> list[Text]:
        """As many pieces as the epoch has texts."""
        chance = random.Random(f"{self.seed} {epoch}")
        return [self.piece(chance, text) for _ in range(self.repeats) for text in self.texts]

    def piece(self, chance: random.Random, text: Text) -> Text:
        """A piece of a text, or of general ones in its place; of a pair, each side is changed in the same way."""
        change = chance.choice((self.cut, self.joined, self.swapped))
        general = bool(self.general) and chance.random() < 0.5
        if isinstance(text, str):
            return change(chance, self.other(chance, general, 0) if general else self.passage(chance, text), general, 0)
        first, second = (
            self.other(chance, general, side) if general else self.passage(chance, text[side]) for side in (0, 1)
        )
        return change(chance, first, general, 0), change(chance, second, general, 1)

    def other(self, chance: random.Random, general: bool, side: int) -> str:
        """Another text, general or the user's; of pairs, one of the same side."""
        text: Text = chance.choice(self.general if general else self.texts)
        return self.passage(chance, text if isinstance(text, str) else text[side])

    def passage(self, chance: random.Random, text: str) -> str:
        """A text; of one far longer than a piece, a book in one line, what stands somewhere in it."""
        most = PASSAGE * self.longest
        if len(text) <= most:
            return text
        start = chance.randrange(len(text) - most + 1)
        found = text[start : start + most]
        return text if found.isspace() else found

    def cut(self, chance: random.Random, text: str, general: bool, side: int) -> str:
        """Some words in a row, from one word to all, but no more than a piece has."""
        words = words_of(text)
        count = doubling(chance, 1, min(len(words), self.longest))
        start = chance.randrange(len(words) - count + 1)
        return text_of(words[start : start + count])

    def joined(self, chance: random.Random, text: str, general: bool, side: int) -> str:
        """The text and others after it, up to some length."""
        words = words_of(text)
        count = doubling(chance, min(len(words), self.longest), self.longest)
        while len(words) < count:
            words += words_of(self.other(chance, general, side))
        return text_of(words[:count])

    def swapped(self, chance: random.Random, text: str, general: bool, side: int) -> str:
        """The text, or some words in a row, with up to all of its words from the vocabulary."""
        words = words_of(self.cut(chance, text, general, side) if chance.random() < 0.5 else text)[: self.longest]
        share = chance.random()
        return text_of([self.word(chance, side) if chance.random() < share else word for word in words])

    def word(self, chance: random.Random, side: int) -> str:
        """A word of the vocabulary; of the user's texts if it has none."""
        return chance.choice(self.vocabulary or words_of(self.other(chance, False, side)))
