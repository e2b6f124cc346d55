"""Writes the tables in README.md from the committed results.

    python benchmarks/readme.py

Reads benchmarks/results/*.json, of accuracy/ SST-2's, and performance/: answers of `mpcify evaluate`, `demo`, `bench`
and of `benchmarks.ring`, each with commit, machine, seed and command. Makes the tables of docs/performance.md and
docs/peers.md too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mpcify.cli.bench import best
from mpcify.files import write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- results: made by benchmarks/readme.py -->\n", "<!-- end of results -->"
COLUMNS = ("result", "recipe", "engine", "examples", "accuracy %", "= plain %", "logit error", "s", "MB", "rounds")
UNITS = (("seconds", ".2f", 1), ("bytes", ".1f", 1e-6), ("rounds", ".0f", 1))


def number(value: float | None, form: str, scale: float = 1.0) -> str:
    """A number as the table says it; a dash if there is none."""
    return "–" if value is None else format(value * scale, form)


def rows(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cost(values: dict[str, Any] | None, requests: int = 1) -> list[str]:
    """Seconds, MB and rounds of one request."""
    if not values or not values["rounds"]:
        return ["–"] * 3
    scale = 1 / requests
    return [number(values[name], form, scale * unit) for name, form, unit in UNITS]


def evaluated(name: str, result: dict[str, Any]) -> list[str]:
    """One row for an answer of `mpcify evaluate`."""
    ring = result["ring"] and f"2^{result['ring']}"
    right = result["accuracy"] if result["accuracy"] is not None else result.get("pearson")
    plain = result["engine"] == "plain"
    return [
        f"[{Path(name).name}](benchmarks/results/{name}.json)",
        result["recipe"],
        " ".join(filter(None, (result["engine"], result["protocol"], ring))),
        str(result["examples"]),
        number(right, ".1f", 100),
        number(None if plain else result["agreement_with_plain"], ".1f", 100),
        number(None if plain else result["max_logit_error"], ".1e"),
        *cost(result["cost"], result["examples"]),
    ]


def demo(name: str, result: dict[str, Any]) -> str:
    """The table for an answer of `mpcify demo`."""
    teacher, student, fixed = (number(result[key]["accuracy"], ".1f", 100) for key in ("teacher", "student", "fixed"))
    private, baselines = result["private"], result["baselines"]
    right, same = (number(private[key], ".1f", 100) for key in ("accuracy", "agreement_with_plain"))
    text = (
        f"**A small model of our own** ([`make demo`](benchmarks/results/{name}.json)): teacher {teacher} %, student "
        f"{student} %, in integers {fixed} %; {private['examples']} sentences in private {right} %, {same} % of the "
        "answers equal to plain. One private request:\n\n"
    )
    recipe, engine = result["student"]["recipe"], private["engine"]
    costs = [(recipe, engine, private["cost"])]
    costs += [(recipe, name, row["cost"]) for name, row in result["beside"].items()]
    costs += [(name, engine, row["cost"]) for name, row in baselines.items()]
    cells = [
        [*named, *cost(spent), number(baselines["puma"]["cost"]["seconds"] / spent["seconds"], ".2f")]
        for *named, spent in costs
    ]
    return text + rows(("recipe", "engine", "s", "MB", "rounds", "× puma"), cells)


def compared(name: str, result: dict[str, Any], base: str = "benchmarks/results", estimates: bool = False) -> str:
    """The table for an answer of `mpcify bench`. base: the way to the results from the page. estimates: shown, too."""
    first = result["rows"][0]
    count = first["layers"]
    what = "One encoder layer" if count == 1 else f"All {count} encoder layers"
    many = "" if first["batch"] == 1 else f", {first['batch']} at once"
    many += ", one-hot embeddings beside them" if "one-hot" in name else ""
    text = (
        f"**{what} of {result['shape']}**, {first['length']} tokens{many}, {first['engine']} {first['protocol']} "
        f"([result]({base}/performance/{name}.json)), {turns(result)}; times less than "
        f"{best(first['ratios']['to'])}:\n\n"
    )
    columns = ["recipe", "ring", "s", "MB", "rounds", "× time", "× MB", "× rounds", "× lan", "× wan"]
    columns += ["MB estimated", "rounds estimated"] if estimates else []
    cells = [
        [
            row["recipe"],
            f"2^{row['ring']}",
            *cost(row["cost"]),
            *(number(row["ratios"][ratio], ".2f") for ratio in ("seconds", "bytes", "rounds", "lan", "wan")),
            *(estimated(row) if estimates else []),
        ]
        for row in result["rows"]
    ]
    return text + rows(columns, cells) + "".join(f"\n{note}\n" for note in notes(result))


def beside(name: str, result: dict[str, Any], base: str = "") -> str:
    """The picture and the table for an answer of `benchmarks.ring`. base: the way to the repository from the page."""
    count, first = result["layers"], result["rows"][0]
    what = "One encoder layer" if count == 1 else "All encoder layers" if count is None else f"{count} encoder layers"
    many = "" if result["batch"] == 1 else f", {result['batch']} at once"
    plain = ", ".join(f"{recipe} {seconds:.3f}" for recipe, seconds in result["plaintext"].items())
    shared = any("threads" in (row["kernels"] or "") for row in result["rows"])
    text = (
        f"**{what} of {result['shape']} under the ring engine and SPU**, {result['length']} tokens{many}, in turns "
        f"([result]({base}benchmarks/results/performance/{name}.json)), {turns(result)}; times less than "
        f"{first['ratios']['to']} in time. Online: without what is dealt and sent ahead of the request; over 1 Gbit/s "
        "and wan as estimated between machines. Owner: its "
        f"processor's seconds online, over those of the same layers in plaintext (float32, one thread: {plain} s). "
        "torch: without native kernels."
        + (" Two threads: they share a product of any role; SPU has one a party." if shared else "")
        + "\n\n"
    )
    columns = ("recipe", "engine", "s, all roles", "s online", "× time", "× online", "1 Gbit/s", "wan")
    more = ("MB online: client", "owner", "MB in all", "messages online", "owner × plaintext")
    cells = []
    for row in result["rows"]:
        online, ratios = row["cost"].get("online", row["cost"]), row["ratios"]
        cells.append(
            [
                row["recipe"],
                " ".join(filter(None, (row["engine"], row["protocol"], row["kernels"]))),
                *(number(cost["seconds"], ".3f") for cost in (row["cost"], online)),
                *(number(ratios.get(name, ratios["seconds"]), ".1f") for name in ("seconds", "online")),
                *(number(ratios["over"][name], ".1f") for name in ("0.4,1", "wan")),
                *(number(online["bytes_per_party"][party], ".1f", 1e-6) for party in ("client", "owner")),
                number(row["cost"]["bytes"], ".1f", 1e-6),
                str(online["rounds"]),
                number(ratios.get("plaintext"), ".2f"),
            ]
        )
    picture = f"\n![where the cost goes, under SPU and the ring engine]({'' if base else 'docs/'}pictures/{name}.png)\n"
    return text + rows((*columns, *more), cells) + picture


def turns(result: dict[str, Any]) -> str:
    """What seconds and rounds are: of how many turns."""
    count = len(result["rows"][0]["seconds"])
    return {1: "one turn", 2: "means of 2 turns"}.get(count, f"medians of {count} turns")


def notes(result: dict[str, Any]) -> Iterator[str]:
    """What a reader must know of some rows."""
    if any(row["ring"] == 32 for row in result["rows"]):
        yield "2^32: forced, with 12 fraction bits and random weights: what it costs, not what it answers."
    if any(row["protocol"] == "semi2k" for row in result["rows"]):
        yield "SEMI2K: without its correlated randomness, which SPU's first party makes alone and nobody sends."


def estimated(row: dict[str, Any]) -> list[str]:
    """MB and rounds as an estimate has them."""
    values = row["told"] or {}
    return [number(values.get(name), form, unit) for name, form, unit in UNITS[1:]]


def ends(result: dict[str, Any]) -> str:
    """The table of what stands around the layers."""
    cells = [
        [row["recipe"], f"2^{row['ring']}", *(cell for part in ("embedding", "head") for cell in cost(row[part]))]
        for row in result["rows"]
    ]
    return rows(("recipe", "ring", "embedding s", "MB", "rounds", "head s", "MB", "rounds"), cells)


def performance(folder: Path = RESULTS) -> str:
    """The part of docs/performance.md that is made: every benchmark's picture and tables."""
    parts = []
    for path in sorted((folder / "performance").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if path.stem.startswith("ring-"):
            parts.append(beside(path.stem, result, "../"))
            continue
        picture = f"![where the cost goes](pictures/{path.stem}.png)\n"
        table = compared(path.stem, result, "../benchmarks/results", estimates=True)
        parts.append(f"{table}\n{picture}\nEmbedding and head beside them:\n\n{ends(result)}")
    parts += lines(folder)
    return "\n".join(parts)


def peers(result: dict[str, Any]) -> str:
    """The table for an answer of `benchmarks.peers`."""
    columns = ("recipe", "system", "s online", "s ahead", "1 Gbit/s", "wan", "MB online", "ahead", "rounds online")
    cells = []
    for row in result["rows"]:
        online, ahead = row["cost"].get("online", row["cost"]), row["cost"].get("offline")
        cells.append(
            [
                row["recipe"],
                " ".join(filter(None, (row["engine"], row["versions"].get(row["engine"]), row["protocol"]))),
                number(online["seconds"], ".3f"),
                number(ahead and ahead["seconds"], ".3f"),
                *(number(row["over"][name], ".2f") for name in ("0.4,1", "wan")),
                number(online["bytes"], ".1f", 1e-6),
                number(ahead and ahead["bytes"], ".1f", 1e-6),
                str(online["rounds"]),
                number(row["error"], ".1e"),
                number(row["error_most"], ".1e"),
            ]
        )
    text = (
        f"**One encoder layer of {result['shape']}**, {result['length']} tokens, in turns "
        f"([result](../benchmarks/results/performance-peers.json)), {turns(result)}, load "
        f"{result['load_average']:.1f}. Error: the largest difference of the layer's outputs from the same graph in "
        "floats, median and most of the turns. 1 Gbit/s (0.4 ms) and wan (0.4 Gbit/s, 40 ms): seconds online as "
        "estimated between machines.\n\n"
    )
    return text + rows((*columns, "error", "most"), cells)


def others(folder: Path = RESULTS) -> str:
    """The part of docs/peers.md that is made."""
    path = folder / "performance-peers.json"
    return peers(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ""


def lines(folder: Path) -> Iterator[str]:
    """The table of what was measured between network namespaces."""
    path = folder / "performance-lines.json"
    if not path.is_file():
        return
    columns = ("recipe", "Gbit/s", "round trip, ms", "s measured", "s estimated", "MB", "rounds")
    cells = [
        [
            row["recipe"],
            number(row["gigabits"], "g") if row["gigabits"] else "all there is",
            number(row["round_trip"], ".2f", 1e3),
            number(row["seconds"], ".2f"),
            number(row["told"], ".2f"),
            *cost(row)[1:],
        ]
        for row in json.loads(path.read_text(encoding="utf-8"))["lines"]
    ]
    yield (
        "**Between three processes in network namespaces**, one layer, 128 tokens, ABY3, their lines shaped by `tc`'s "
        "token bucket ([result](../benchmarks/results/performance-lines.json), `python -m benchmarks.network`):\n\n"
        + rows(columns, cells)
    )


def headline(folder: Path) -> dict[str, dict[str, Any]]:
    """SST-2's teacher and student, in plain and encrypted: the same sentences, the same weights.

    Without MPNet-base and what learned from a part of the file: fewer sentences of theirs are encrypted.
    """
    found = {}
    encrypted = sorted(path.stem.removesuffix("-private") for path in (folder / "accuracy").glob("sst2-*-private.json"))
    students = [name for name in encrypted if not re.match(r"sst2-(puma$|mpnet-|\d+-)", name)]
    names = [f"{name}-{kind}" for name in students for kind in ("dev", "private")]
    for name in ("sst2-teacher-dev", "sst2-2quad-freediv-s0-dev", *names, "sst2-puma-private"):
        path = folder / "accuracy" / f"{name}.json"
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            found[f"accuracy/{path.stem}"] = result.get("a", result)  # of a comparison with its teacher, the student
    return found


def tables(folder: Path = RESULTS) -> str:
    """The tables for the results in a folder."""
    results = headline(folder) | {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    cells = [evaluated(name, result) for name, result in results.items() if "agreement_with_plain" in result]
    parts = (
        ["**Real checkpoints**; s, MB and rounds are of one private request:\n\n" + rows(COLUMNS, cells)]
        if cells
        else []
    )
    shown = (("ring-layer-128", beside), *((name, compared) for name in ("layer-128", "layer-512", "bert-base-128")))
    for name, table in shown:
        path = folder / "performance" / f"{name}.json"
        if path.is_file():
            parts.append(table(name, json.loads(path.read_text(encoding="utf-8"))))
    parts += [demo(name, result) for name, result in results.items() if "speedup_over_puma" in result]
    return "\n".join(parts)


def write(page: Path, made: str) -> None:
    """Puts what was made between a page's two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    write_whole(page, f"{before}{START}{made}{END}{after}")


def main() -> None:
    write(ROOT / "README.md", tables())
    write(ROOT / "docs" / "performance.md", performance())
    write(ROOT / "docs" / "peers.md", others())


if __name__ == "__main__":
    main()
