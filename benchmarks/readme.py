"""Writes the tables in README.md from the committed results.

    python benchmarks/readme.py

Reads benchmarks/results/*.json and, of accuracy/, SST-2's: answers of `mpcify evaluate` and `mpcify demo`, and what
benchmarks/layer.py measured, each with commit, machine, seed and command.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- results: made by benchmarks/readme.py -->\n", "<!-- end of results -->"
COLUMNS = ("result", "recipe", "engine", "examples", "accuracy %", "= plain %", "logit error", "s", "MB", "rounds")
UNITS = (("seconds", ".2f", 1), ("bytes", ".1f", 1e-6), ("rounds", ".0f", 1))


def number(value: float | None, form: str, scale: float = 1.0) -> str:
    """A number as the table says it; a dash where there is none."""
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
    costs = {result["student"].get("recipe", "2quad-freediv"): private["cost"]}
    costs |= {recipe: row["cost"] for recipe, row in baselines.items()}
    cells = [
        [recipe, *cost(spent), number(costs["puma"]["seconds"] / spent["seconds"], ".2f")]
        for recipe, spent in costs.items()
    ]
    return text + rows(("recipe", "s", "MB", "rounds", "× puma"), cells)


def layers(name: str, result: dict[str, Any]) -> str:
    """The table for what benchmarks/layer.py measured."""
    what = "One encoder layer" if result["layers"] == 1 else f"{result['layers']} encoder layers"
    text = (
        f"**{what} of BERT-base's shape**, {result['length']} tokens, spu {result['protocol']} "
        f"([result](benchmarks/results/{name}.json)):\n\n"
    )
    cells = [
        [
            row["recipe"],
            *cost({**row, "seconds": row["median_seconds"]}),
            number(row["times_faster_than_first"], ".2f"),
        ]
        for row in result["rows"]
    ]
    return text + rows(("recipe", "s", "MB", "rounds", f"× {result['rows'][0]['recipe']}"), cells)


def headline(folder: Path) -> dict[str, dict[str, Any]]:
    """SST-2's teacher and student, in plain and encrypted: the same sentences, the same weights."""
    found = {}
    for name in ("teacher-dev", "2quad-freediv-s0-dev", "2quad-freediv-s0-private", "puma-private"):
        path = folder / "accuracy" / f"sst2-{name}.json"
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
    parts += [layers(name, result) for name, result in results.items() if "rows" in result and "layers" in result]
    parts += [demo(name, result) for name, result in results.items() if "speedup_over_puma" in result]
    return "\n".join(parts)


def main() -> None:
    page = ROOT / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}{tables()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
