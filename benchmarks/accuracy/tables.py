"""Writes the tables of docs/accuracy.md from the committed results.

python -m benchmarks.accuracy.tables
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.accuracy.tasks import TASKS as MEASURED
from benchmarks.readme import cost, number, rows
from mpcify.files import write_whole

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "accuracy.md"
SUMMARY = ("<!-- summary: made by benchmarks/accuracy/tables.py -->\n", "<!-- end of summary -->")
TABLES = ("<!-- tables: made by benchmarks/accuracy/tables.py -->\n", "<!-- end of tables -->")
TASKS = tuple(task.name for task in MEASURED)
ANY = rf"(?:{'|'.join(TASKS[::-1])})(?:-\d+)?"  # a task, or its first rows alone; sst2-mpnet before sst2
WHO = ("teacher", "student")
Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """What students of a task should reach, in points and per cent. lost: the most that they lose on dev and test.

    mean, worst: of equal answers on other sets. other: the most accuracy that they lose on other domains. short: right
    answers on the set of that name. seeds: how many students it is asked of.
    """

    lost: float = 1.0
    mean: float | None = None
    worst: float | None = None
    other: float | None = None
    short: float | None = None
    seeds: int = 1

    def __str__(self) -> str:
        other = None if self.other is None else -self.other
        named = {"mean": self.mean, "worst": self.worst, "other domain": other, "short": self.short}
        off = [f"{name} {value:g}".replace("-", "−") for name, value in named.items() if value is not None]
        return ", ".join([f"−{self.lost:g}", *off, *([f"{self.seeds} seeds"] if self.seeds > 1 else [])])


TARGETS = {  # of the recipes that the documents recommend
    ("sst2", "2quad-freediv"): Target(0.3, seeds=3),
    ("sst2", "softmax-freediv"): Target(0.3, seeds=3),
    ("sst2-mpnet", "2quad-freediv"): Target(0.5),
    ("sst2-mpnet", "softmax-freediv"): Target(0.5),
    ("reviews", "2quad-freediv"): Target(1.0, 93, 88, 1.5),
    ("reviews", "softmax-freediv"): Target(1.0, 95, 90, 1.5),
    ("tickets", "2quad-freediv"): Target(short=95),
    ("tickets", "softmax-freediv"): Target(short=95),
    **{
        (task, recipe): Target(seeds=3)
        for task in ("mrpc", "trec", "tweets", "rte")
        for recipe in ("2quad-freediv", "softmax-freediv")
    },
}


def order(task: str) -> tuple[int, int]:
    """The place of a task in the tables: those that learn from N rows, `NAME-N`, stand behind the task itself."""
    name, count = re.fullmatch(rf"({'|'.join(TASKS)})(?:-(\d+))?", task).groups()
    return TASKS.index(name), int(count or 0)


def read(folder: Path = RESULTS) -> Results:
    """The results by the names of their files."""
    paths = sorted(path for name in ("accuracy", "robustness") for path in (folder / name).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def percent(value: float) -> str:
    """A share as a percentage."""
    return number(value, ".2f", 100)


def link(name: str) -> str:
    """A link from the page to a result."""
    return f"[{name}](../benchmarks/results/accuracy/{name}.json)"


def compared(results: Results) -> Iterator[list[str]]:
    """One row a task, recipe and file: the means over seeds."""
    runs: dict[tuple[str, str, str], list[str]] = {}
    for name in results:
        if found := re.fullmatch(rf"({ANY})-(.+)-(s\d+|calibrated)-(dev|test)", name):
            task, recipe, seed, file = found.groups()
            recipe += ", calibrated alone" if seed == "calibrated" else ""
            runs.setdefault((task, recipe, file), []).append(name)
    for (task, recipe, file), names in sorted(runs.items(), key=lambda item: order(item[0][0])):
        found = [results[name] for name in names]
        ours, theirs = ([run[side]["accuracy"] for run in found] for side in "ab")
        yield [
            f"{task} {file}",
            recipe,
            str(len(found)),
            " / ".join(map(percent, theirs if len(set(theirs)) > 1 else theirs[:1])),
            " / ".join(map(percent, ours)),
            f"{100 * (mean(ours) - mean(theirs)):+.2f}",
            percent(mean(run["agreement"] for run in found)),
            " / ".join(f"{run['mcnemar_p']:.2g}" for run in found),
            " ".join(f"[{index}](../benchmarks/results/accuracy/{name}.json)" for index, name in enumerate(names)),
        ]


def robust(results: Results) -> list[tuple[str, dict[str, Any]]]:
    """Task by task the students asked about other texts: a link to each, and its result."""
    found = [(name, run) for name, run in results.items() if "sets" in run]
    found.sort(key=lambda item: order(item[1]["task"]))
    return [
        (f"{run['task']} [{run['student']}](../benchmarks/results/robustness/{name}.json)", run) for name, run in found
    ]


def sets_in(results: Results, labelled: bool = False) -> tuple[str, ...]:
    """The names of the sets of any student, or of those that have labels."""
    sets = (row for _, run in robust(results) for row in run["sets"] if row["accuracy"] or not labelled)
    return tuple(dict.fromkeys(row["set"] for row in sets))


def equal(results: Results) -> Iterator[list[str]]:
    """One row a student: the share of equal answers on each set, their mean off dev, and the worst."""
    for student, run in robust(results):
        by_set = {row["set"]: percent(row["agreement"]) for row in run["sets"]}
        worst = run["worst_off_dev"]
        yield [
            student,
            *(by_set.get(name, "–") for name in sets_in(results)),
            percent(run["mean_off_dev"]),
            f"{percent(worst['agreement'])} ({worst['set']})",
        ]


def elsewhere(results: Results) -> Iterator[list[str]]:
    """One row a student with labels off dev: the accuracy of its teacher and its own on each set that has them."""
    for student, run in robust(results):
        by_set = {row["set"]: row["accuracy"] for row in run["sets"] if row["accuracy"]}
        if by_set.keys() - {"dev"}:
            shown = {name: " → ".join(percent(found[who]) for who in WHO) for name, found in by_set.items()}
            yield [student, *(shown.get(name, "–") for name in sets_in(results, labelled=True))]


def targets(results: Results) -> Iterator[tuple[str, str, Target]]:
    """The task, recipe and target of each row of the summary: a task of N rows has that of the whole file."""
    for (task, recipe), target in TARGETS.items():
        matches = (re.fullmatch(rf"({task}(?:-\d+)?)-{recipe}-s\d+(?:-\w+)?", name) for name in results)
        for name in sorted({task} | {found[1] for found in matches if found}, key=order):
            yield name, recipe, target


def summary(results: Results) -> Iterator[list[str]]:
    """One row a task and recipe that has a target: points above the teacher, equal answers off dev, and what is met."""
    for task, recipe, target in targets(results):
        losses: dict[str, list[float]] = {}
        for file in ("dev", "test"):
            runs = [run for name, run in results.items() if re.fullmatch(rf"{task}-{recipe}-s\d+-{file}", name)]
            losses[file] = [100 * (run["a"]["accuracy"] - run["b"]["accuracy"]) for run in runs]
        asked = [run for name, run in results.items() if re.fullmatch(rf"{task}-{recipe}-s\d+", name) and "sets" in run]
        made = [run for name, run in results.items() if re.fullmatch(rf"{task}-{recipe}-s\d+-distill", name)]
        off = [100 * mean(run["mean_off_dev"] for run in asked)] if asked else []
        worst = [100 * min(run["worst_off_dev"]["agreement"] for run in asked)] if asked else []
        rows = [row for run in asked for row in run["sets"] if row["set"] == "short"]
        short = [100 * mean(row["accuracy"]["student"] for row in rows)] if rows else []
        other = [gained for run in asked for gained in gains(run)]
        elsewhere = [mean(other)] if other else []
        floor = None if target.other is None else -target.other
        wanted = [(off, target.mean), (worst, target.worst), (elsewhere, floor), (short, target.short)]
        met = [mean(found) >= -target.lost - 1e-9 for found in losses.values() if found]  # 3 of 300 answers are a point
        met += [found[0] >= least for found, least in wanted if found and least is not None]
        open_ = not met or any(least is not None and not found for found, least in wanted)
        counts = [len(found) for found in (*losses.values(), asked) if found]
        fewest = min((len(found) for found in losses.values() if found), default=0)
        yes = "yes" if fewest >= target.seeds else f"yes, {fewest} of {target.seeds} seeds"
        more = [("other domain", "+.1f", elsewhere), ("short", ".1f", short)]
        yield [
            task,
            recipe,
            "–" if not made else "pieces too" if all("general_texts" in run for run in made) else "whole texts",
            str(max(counts, default=0)),
            *(f"{mean(found):+.2f}" if found else "–" for found in losses.values()),
            ", ".join([f"{off[0]:.1f} ({worst[0]:.1f})", *(f"{what} {at[0]:{form}}" for what, form, at in more if at)])
            if off
            else "–",
            str(target),
            "no" if not all(met) else "not measured" if open_ else yes,
        ]


def gains(run: dict[str, Any]) -> list[float]:
    """The points of accuracy that a student has above its teacher on each other domain whose labels mean the same."""
    rows = [row["accuracy"] for row in run["sets"] if row["set"] in TASKS and row["accuracy"] is not None]
    return [100 * (row["student"] - row["teacher"]) for row in rows]


def private(results: Results) -> Iterator[list[str]]:
    """One row a model: what SPU answered."""
    for name, run in results.items():
        if name.endswith("-private"):
            yield [
                link(name),
                run["recipe"],
                str(run["examples"]),
                percent(run["accuracy"]),
                percent(run["agreement_with_plain"]),
                number(run["max_logit_error"], ".1e"),
                *cost(run["cost"], run["examples"]),
            ]


def profiled(results: Results) -> Iterator[list[str]]:
    """One row a model: what one request of so many tokens costs."""
    for name, run in results.items():
        if name.endswith("-profile"):
            yield [link(name), run["recipe"], str(run["length"]), *cost(run["cost"])]


def narrow(results: Results) -> Iterator[list[str]]:
    """One row a student, file, ring and fraction bits."""
    found = []
    for name in results:
        if parts := re.fullmatch(r"(.+)-fixed(\d+)-f(\d+)-(dev|test)", name):
            student, ring, bits, file = parts.groups()
            found.append((student, file, int(ring), int(bits), name))
    for student, file, ring, bits, name in sorted(found):
        run = results[name]
        least = run["tightest"][0]
        yield [
            student,
            f"[{file}](../benchmarks/results/accuracy/{name}.json)",
            f"2^{ring}",
            str(bits),
            percent(run["accuracy"]),
            percent(run["agreement_with_plain"]),
            number(run["max_logit_error"], ".1e"),
            str(run.get("outside_ranges", "–")),
            f"{least['headroom_bits']:.1f} ({least['where']} {least['quantity']})",
        ]


def lengths(results: Results) -> Iterator[list[str]]:
    """One row a pair of engines: the least agreement of all pairs of lengths and batches."""
    for name, run in results.items():
        if name.endswith("-padding"):
            kinds: dict[str, list[dict[str, Any]]] = {}
            for row in run["pairs"]:
                kinds.setdefault(" and ".join(row[side].partition(",")[0] for side in "ab"), []).append(row)
            for kind, found in kinds.items():
                yield [
                    f"[{kind}](../benchmarks/results/accuracy/{name}.json)",
                    str(len(found)),
                    str(max(row["examples"] for row in found)),
                    percent(min(row["agreement"] for row in found)),
                    number(max(row["max_logit_difference"] for row in found), ".1e"),
                ]


def tried(results: Results) -> Iterator[list[str]]:
    """One row a way of training."""
    for file, found in results.items():
        if not file.startswith("search-"):
            continue
        for name, run in found["variants"].items():
            before, after = run["start"], run["end"]
            yield [
                f"[{file.removeprefix('search-')}](../benchmarks/results/accuracy/{file}.json)",
                name,
                percent(before["agreement"]),
                percent(after["agreement"]),
                number(before["divergence"], ".3f"),
                number(after["divergence"], ".3f"),
                number(run["losses"].get("loss_hidden"), ".3f"),
            ]


def tables(results: Results) -> str:
    """Every table that has a row, under its heading."""
    plain = (
        "data",
        "student",
        "seeds",
        "teacher",
        "student by seed",
        "mean less teacher",
        "equal answers",
        "McNemar p",
    )
    sections = (
        ("In plain: students and their teachers", (*plain, "results"), compared(results)),
        (
            "On texts unlike those of distillation: equal answers",
            ("student", *sets_in(results), "mean off dev", "worst"),
            equal(results),
        ),
        (
            "Accuracy there: teacher → student",
            ("student", *sets_in(results, labelled=True)),
            elsewhere(results),
        ),
        (
            "Encrypted: SPU, ABY3, ring 2^64",
            ("result", "recipe", "sentences", "accuracy", "= plain", "logit error", "s", "MB", "rounds"),
            private(results),
        ),
        (
            "One request under SPU, ABY3, ring 2^64",
            ("result", "recipe", "tokens", "s", "MB", "rounds"),
            profiled(results),
        ),
        (
            "In integers, forced: how narrow a ring may be",
            (
                "student",
                "data",
                "ring",
                "f",
                "accuracy",
                "= plain",
                "logit error",
                "outside ranges",
                "least headroom of what was measured, bits",
            ),
            narrow(results),
        ),
        (
            "Length and padding: 32, 64, 128 tokens, each text's own; one at a time and 16 at once",
            ("engines", "pairs of settings", "sentences", "equal answers, worst pair", "largest difference of logits"),
            lengths(results),
        ),
        (
            "Ways of training that were tried",
            ("data", "variant", "equal before", "equal after", "divergence before", "after", "hidden loss"),
            tried(results),
        ),
    )
    parts = []
    for heading, columns, cells in sections:
        if found := list(cells):
            parts.append(f"## {heading}\n\n{rows(columns, found)}")
    return "\n".join(parts)


def summary_of(results: Results) -> str:
    """The table that the page begins with."""
    columns = ("task", "recipe", "taught on", "seeds", "dev", "test", "off them: mean (worst)", "target", "met?")
    return rows(columns, summary(results))


def between(page: str, marks: tuple[str, str], content: str) -> str:
    """A page with other content between two marks."""
    before, _, rest = page.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}{content}{marks[1]}{after}"


def main() -> None:
    results, page = read(), PAGE.read_text(encoding="utf-8")
    page = between(page, SUMMARY, summary_of(results))
    write_whole(PAGE, between(page, TABLES, tables(results)))


if __name__ == "__main__":
    main()
