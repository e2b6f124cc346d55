"""The whole way on a small model of our own: data, teacher, student, private predictions, and what they cost."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel

from mpcify.conversion.check import check
from mpcify.conversion.convert import convert, load, load_model
from mpcify.conversion.processors import read_processor
from mpcify.conversion.rows import batches_of, pick, rows_of
from mpcify.data.files import Examples, read_examples
from mpcify.demo.counting import bag_of_words
from mpcify.demo.grammar import Review, data_set, write_tsv
from mpcify.demo.parties import ask_parties
from mpcify.demo.teacher import LONGEST, make_model, make_tokenizer, schedule, train
from mpcify.distillation.bars import without_bars
from mpcify.distillation.distill import distill
from mpcify.distillation.settings import Settings
from mpcify.engines import DEFAULT, engine_named
from mpcify.engines.cost import Cost, median
from mpcify.inference import PrivateModel
from mpcify.lowering.calibrate import calibrate
from mpcify.lowering.compile import compile
from mpcify.lowering.export import TracedStudent
from mpcify.measure.evaluate import evaluate
from mpcify.measure.provenance import provenance
from mpcify.progress import Progress, Stage

RECIPE = "2quad-freediv"
COMPARED = ("puma", "mpcformer")
PRIVATE = (DEFAULT, "ring")  # the engines under which the student answers
Asked = tuple[str, str]  # a recipe and an engine
CALIBRATION = 1000  # sentences
BATCH, RATE = 64, 2e-3  # of the distillation: a small model takes larger steps than the defaults
EVALUATED_AT_ONCE = 50  # sentences


@dataclass(frozen=True)
class Scale:
    """How large the demo is.

    train, test: sentences. private: test sentences; asked: those of them that three processes are asked, too. repeats:
    timed requests a recipe.
    """

    train: int = 16_000
    test: int = 1_000
    teacher_epochs: int = 12
    student_epochs: float = 7
    private: int = 64
    asked: int = 8
    repeats: int = 15


@contextmanager
def silent(what: str, total: int) -> Iterator[Progress]:
    """A stage that shows no progress."""
    yield lambda done: None


@contextmanager
def one_thread() -> Iterator[None]:
    """While open, torch works in one thread: on models so small, several only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(folder: Path, scale: Scale | None = None, seed: int = 0, stage: Stage = silent) -> dict[str, Any]:
    """Runs the demo; `folder` then holds train.tsv, test.tsv, teacher/ and student/. Returns what `mpcify demo` writes.

    stage: opens each stage's progress by its name and length. Accuracies are on the test sentences, private ones on
    the first of them; costs are medians of one request of 32 tokens. Last, the same student answers from three
    processes, under each engine. Raises MPC-109 if student/ is there already.
    """
    began, scale = time.monotonic(), scale or Scale()
    teacher, student = folder / "teacher", folder / "student"
    sentences, held_back = data_set((scale.train, scale.test), seed)
    write_tsv(folder / "train.tsv", sentences)
    write_tsv(folder / "test.tsv", held_back)
    training, test = (read_examples(folder / name) for name in ("train.tsv", "test.tsv"))
    with one_thread():
        words = bag_of_words(sentences, held_back)
        make_teacher(teacher, sentences, scale.teacher_epochs, seed, stage)
        findings = [finding.kind for finding in check(teacher)]
        make_student(student, teacher, training, test, scale.student_epochs, seed)
        models = {
            RECIPE: load(student),
            **{name: make_undistilled(teacher, name, training, seed) for name in COMPARED},
        }
    reports = {
        (model.name, engine): report_of(model, test, engine, stage)
        for model, engine in ((teacher, "plain"), (student, "plain"), (student, "fixed"))
    }
    with ExitStack() as stack:
        sessions = {
            asked: stack.enter_context(
                PrivateModel(TracedStudent(models[asked[0]], student), engine_named(asked[1]), length=LONGEST)
            )
            for asked in (*((RECIPE, engine) for engine in PRIVATE), *((recipe, DEFAULT) for recipe in COMPARED))
        }
        answered = read_examples(folder / "test.tsv", limit=scale.private)
        simulated = {}
        for engine in PRIVATE:
            with stage(f"private answers, {engine}", len(answered)) as advance:
                simulated[engine] = evaluate(sessions[RECIPE, engine], answered, progress=advance)
        costs = time_requests(sessions, answered.texts, scale.repeats, stage)
    exported = sessions[RECIPE, DEFAULT].exported
    parties = {
        engine: ask_parties(
            exported, engine, LONGEST, answered.texts[: scale.asked], simulated[engine].logits[: scale.asked], stage
        )
        for engine in PRIVATE
    }
    return {
        "data": {"train": scale.train, "test": scale.test, "length": LONGEST},
        "bag_of_words": {"accuracy": words},
        "check": {kind: findings.count(kind) for kind in sorted(set(findings))},
        "teacher": {"accuracy": reports["teacher", "plain"]["accuracy"]},
        "student": {"accuracy": reports["student", "plain"]["accuracy"], "recipe": RECIPE},
        "fixed": chosen(reports["student", "fixed"], "ring", "accuracy", "agreement_with_plain", "max_logit_error"),
        "private": private(simulated[DEFAULT].report, costs[RECIPE, DEFAULT]),
        "baselines": {recipe: {"cost": costs[recipe, DEFAULT].to_json()} for recipe in COMPARED},
        "speedup_over_puma": costs["puma", DEFAULT].seconds / costs[RECIPE, DEFAULT].seconds,
        "parties": parties[DEFAULT],
        "beside": {
            engine: {**private(simulated[engine].report, costs[RECIPE, engine]), "parties": parties[engine]}
            for engine in PRIVATE
            if engine != DEFAULT
        },
        "seconds": time.monotonic() - began,
        **provenance(seed),
    }


def private(report: Mapping[str, Any], cost: Cost) -> dict[str, Any]:
    """What a private student answered, and what a request cost."""
    settings = chosen(report, "engine", "protocol", "ring", "examples")
    return {
        **settings,
        **chosen(report, "accuracy", "agreement_with_plain", "max_logit_error"),
        "cost": cost.to_json(),
    }


def chosen(report: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Some of a report's fields."""
    return {name: report[name] for name in names}


def report_of(model: Path, examples: Examples, engine: str, stage: Stage) -> dict[str, Any]:
    """A checkpoint's report on an engine, all examples at once."""
    with (
        stage(f"{model.name}, {engine}", len(examples)) as advance,
        compile(model, engine, batch=EVALUATED_AT_ONCE, length=LONGEST) as private,
    ):
        return evaluate(private, examples, progress=advance).report


def make_teacher(folder: Path, sentences: Sequence[Review], epochs: int, seed: int, stage: Stage) -> None:
    """Trains the teacher and saves it, with its tokenizer."""
    tokenizer = make_tokenizer()
    model, steps = make_model(tokenizer, seed), schedule(sentences, epochs, seed)
    with stage("teacher", len(steps)) as advance:
        train(model, tokenizer, steps, advance)
    with without_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_student(folder: Path, teacher: Path, training: Examples, test: Examples, epochs: float, seed: int) -> None:
    """convert → calibrate → distill → save. The teacher's own embedding table stands for the public one."""
    model = load_model(teacher)
    processor = read_processor(teacher, model)
    with TemporaryDirectory() as place:
        base = Path(place) / "demo" / "base"
        with without_bars():
            model.base_model.save_pretrained(base)
        processor.save_pretrained(base)
        distill(
            convert(model, RECIPE),
            model,
            training,
            test,
            folder,
            Settings(epochs=epochs, learning_rate=RATE, batch_size=BATCH, seed=seed, base=str(base), device="cpu"),
            processor=processor,
        )


def make_undistilled(teacher: Path, recipe: str, training: Examples, seed: int) -> PreTrainedModel:
    """The teacher under another recipe, calibrated but not distilled: for its cost alone."""
    model = load_model(teacher)
    student, tokenizer = convert(model, recipe), read_processor(teacher, model)
    rows = rows_of(training.select(pick(len(training), CALIBRATION, seed)), student, tokenizer)
    calibrate(student, batches_of(rows, student), model)
    return student


def time_requests(
    sessions: Mapping[Asked, PrivateModel], texts: Sequence[str], repeats: int, stage: Stage
) -> dict[Asked, Cost]:
    """The median cost of one request of each: the same texts, taking turns; the first turn is warm-up."""
    costs: dict[Asked, list[Cost]] = {asked: [] for asked in sessions}
    with stage("private requests, timed", repeats + 1) as advance:
        for turn in range(repeats + 1):
            for asked, session in sessions.items():
                costs[asked].append(session([texts[turn % len(texts)]])[1])
            advance(turn + 1)
    return {asked: median(spent[1:]) for asked, spent in costs.items()}
