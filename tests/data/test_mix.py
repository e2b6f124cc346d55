"""The mix: every text as it is, and as many pieces of every length, the same whenever the seed and the epoch are."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcify.data import mix
from mpcify.data.mix import Mix, doubling, is_unspaced, text_of, words_of

TEXTS = tuple(" ".join(f"{name}{index}" for index in range(12)) for name in "abcdefgh")
PAIRS = tuple((f"left{index} one two", f"right{index} three four five") for index in range(20))
CHINESE = ("这家餐厅的服务很好，我们还会再来。", "电影太长", "好")
JAPANESE = ("この映画はとても面白かったです。", "ひどい")
GENERAL = ("general words of any kind", "general texts that nobody labelled")


def epochs(mix: Mix, count: int = 40) -> list:
    """The pieces of some epochs."""
    return [piece for epoch in range(count) for piece in mix.pieces(epoch)]


def test_pieces_are_the_same_for_a_seed_and_an_epoch_and_no_others() -> None:
    pieces = Mix(TEXTS, seed=3).pieces(2)
    assert Mix(TEXTS, seed=3).pieces(2) == pieces
    assert Mix(TEXTS, seed=3).pieces(1) != pieces
    assert Mix(TEXTS, seed=4).pieces(2) != pieces


@pytest.mark.parametrize("repeats", [1, 3])
def test_an_epoch_has_as_many_pieces_as_texts(repeats: int) -> None:
    mix = Mix(TEXTS, repeats=repeats)
    assert len(mix) == 2 * repeats * len(TEXTS)
    assert len(mix.pieces(0)) == repeats * len(TEXTS)


def test_lengths_reach_from_one_word_to_the_longest_and_each_doubling_is_as_likely() -> None:
    lengths = [len(words_of(piece)) for piece in epochs(Mix(TEXTS, longest=64), 100)]
    assert (min(lengths), max(lengths)) == (1, 64)
    drawn = [doubling(random.Random(seed), 1, 64) for seed in range(4_000)]
    shares = [sum(least <= length < 2 * least for length in drawn) / len(drawn) for least in (2, 4, 8, 16)]
    assert all(abs(share - 1 / 6) < 0.05 for share in shares), shares


@given(st.integers(1, 200), st.integers(1, 200), st.integers())
def test_a_number_drawn_is_within_its_bounds(least: int, more: int, seed: int) -> None:
    assert least <= doubling(random.Random(seed), least, least + more) <= least + more
    assert doubling(random.Random(seed), least, least) == least


@settings(deadline=None)
@given(
    st.lists(st.text(min_size=1).filter(lambda text: text.strip()), min_size=1, max_size=5),
    st.lists(st.text(min_size=1).filter(lambda text: text.strip()), max_size=3),
    st.lists(st.sampled_from(["word", "other", "字"]), max_size=3),
    st.integers(1, 12),
    st.integers(0, 9),
)
def test_a_piece_of_any_text_has_a_word_and_no_more_than_the_longest(
    texts: list[str], general: list[str], vocabulary: list[str], longest: int, seed: int
) -> None:
    for piece in epochs(Mix(texts, general, vocabulary, longest, seed=seed), 3):
        assert piece.strip() == piece
        assert 1 <= len(words_of(piece)) <= longest


@given(st.lists(st.sampled_from([*"abc字好。か。", "word", "it's", "1.5", "—"]), min_size=1))
def test_words_survive_being_a_text(words: list[str]) -> None:
    assert words_of(text_of(words)) == words


def test_words_of_a_text_parted_by_spaces_stay_whole() -> None:
    assert words_of("It's  a\tgood\nfilm, très bon 영화") == ["It's", "a", "good", "film,", "très", "bon", "영화"]
    assert text_of(["It's", "a", "film"]) == "It's a film"


@pytest.mark.parametrize("texts", [CHINESE, JAPANESE], ids=["Chinese", "Japanese"])
def test_a_language_without_spaces_is_cut_by_characters_and_gets_none(texts: tuple[str, ...]) -> None:
    assert all(words_of(text) == list(text) for text in texts), "a short text too"
    pieces = epochs(Mix(texts, longest=30), 400)
    assert not [piece for piece in pieces if " " in piece]
    assert {1, 30} <= {len(piece) for piece in pieces}


def test_a_text_of_two_writings_has_spaces_only_between_words_that_have_them() -> None:
    words = words_of("我用 Hugging Face 模型")
    assert words == ["我", "用", "Hugging", "Face", "模", "型"]
    assert text_of(words) == "我用Hugging Face模型"
    assert [is_unspaced(word) for word in ("字", "か", "ไ", "word", "한국어")] == [True, True, True, False, False]


def test_a_wide_space_parts_words_and_is_none() -> None:
    """U+3000, which Chinese and Japanese have between sentences: no piece of it has words alone."""
    assert words_of("面白い\u3000映画 film\u3000of") == ["面", "白", "い", "映", "画", "film", "of"]
    pieces = epochs(Mix(("面白い\u3000映画", "好\u3000"), longest=8), 200)
    assert all(piece.strip() for piece in pieces)


def test_each_side_of_a_pair_comes_from_that_side() -> None:
    left, right = ({word for pair in PAIRS for word in words_of(pair[side])} for side in (0, 1))
    pieces = epochs(Mix(PAIRS, longest=20), 10)  # without a vocabulary, words are the user's own
    assert all(isinstance(piece, tuple) and len(piece) == 2 for piece in pieces)
    assert all(set(words_of(first)) <= left and set(words_of(second)) <= right for first, second in pieces)
    assert len({len(words_of(second)) for _, second in pieces}) > 10


def test_general_texts_give_half_of_the_pieces() -> None:
    pieces = epochs(Mix(TEXTS, GENERAL, longest=40), 100)
    own = {word for text in TEXTS for word in words_of(text)}
    general = [piece for piece in pieces if words_of(piece)[0] not in own]
    # of 800, half within three deviations (0.018 each); some swapped ones begin with a word of the user's
    assert 0.40 < len(general) / len(pieces) < 0.55
    first, second = zip(*epochs(Mix(PAIRS, GENERAL)), strict=True)
    assert any("general" in text for text in first)
    assert any("general" in text for text in second)


def test_a_book_in_one_line_gives_pieces_from_all_of_it_and_costs_no_more_than_a_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    monkeypatch.setattr(mix, "words_of", lambda text: read.append(len(text)) or words_of(text))
    book = " ".join(f"word{place}" for place in range(20_000))
    pieces = epochs(Mix(("a text", "and another"), (book,), longest=8), 200)
    places = [int(word[4:]) for piece in pieces for word in words_of(piece) if re.fullmatch(r"word\d{2,5}", word)]
    assert [sum(start <= place < start + 5_000 for place in places) > 50 for start in range(0, 20_000, 5_000)] == [
        True
    ] * 4
    assert max(read) <= 64 * 8
    spaces = "a" + " " * 10_000 + "b"
    assert all(piece.strip() for piece in epochs(Mix((spaces,), longest=2), 50))


def test_swapped_words_come_from_the_vocabulary() -> None:
    found = Counter(word for piece in epochs(Mix(TEXTS, (), ("new", "words"))) for word in words_of(piece))
    own = {word for text in TEXTS for word in words_of(text)}
    assert set(found) - own == {"new", "words"}


@pytest.mark.parametrize("vocabulary", [(), ("other",)])
def test_a_text_of_one_word_gives_pieces(vocabulary: tuple[str, ...]) -> None:
    pieces = epochs(Mix(("word",), (), vocabulary, longest=8), 400)
    assert {word for piece in pieces for word in words_of(piece)} == {"word", *vocabulary}
    assert max(len(words_of(piece)) for piece in pieces) == 8
    assert set(epochs(Mix(("word",), longest=1))) == {"word"}
