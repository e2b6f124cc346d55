"""Writes the tables in README.md from the committed results.

    python benchmarks/readme.py

Reads benchmarks/results/*.json: answers of `mpcify evaluate` and `mpcify demo`, with commit, machine, seed and command.
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
    engine = result["engine"] if result["protocol"] is None else f"{result['engine']}, {result['protocol']}"
    right = result["accuracy"] if result["accuracy"] is not None else result.get("pearson")
    return [
        f"[{name}](benchmarks/results/{name}.json)",
        result["recipe"],
        engine if result["ring"] is None else f"{engine}, ring 2^{result['ring']}",
        str(result["examples"]),
        number(right, ".1f", 100),
        number(result["agreement_with_plain"], ".1f", 100),
        number(result["max_logit_error"], ".1e"),
        *cost(result["cost"], result["examples"]),
    ]


def demo(name: str, result: dict[str, Any]) -> str:
    """The table for an answer of `mpcify demo`."""
    private, speedup = result["private"], result["speedup_over_puma"]
    accuracy = [number(result[key]["accuracy"], ".1f", 100) for key in ("teacher", "student", "fixed")]
    right, same = (number(private[key], ".1f", 100) for key in ("accuracy", "agreement_with_plain"))
    found = (
        f"[`make demo`](benchmarks/results/{name}.json), a small model on a synthetic task: teacher {accuracy[0]} %, "
        f"student {accuracy[1]} %, in integers {accuracy[2]} %; {private['examples']} examples privately: {right} %, "
        f"{same} % of the answers equal to plain.\n\n"
    )
    cells = [["2quad-freediv", *cost(private["cost"]), f"**{speedup:.2f}**"]]
    base = result["baselines"]["puma"]["cost"]["seconds"]
    for recipe, baseline in result["baselines"].items():
        cells.append([recipe, *cost(baseline["cost"]), number(base / baseline["cost"]["seconds"], ".2f")])
    return found + rows(("recipe, spu, aby3", "seconds", "MB", "rounds", "speed-up over puma"), cells)


def tables(folder: Path = RESULTS) -> str:
    """The tables for the results in a folder."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    parts = [demo(name, result) for name, result in results.items() if "speedup_over_puma" in result]
    cells = [evaluated(name, result) for name, result in results.items() if "agreement_with_plain" in result]
    if cells:
        parts.append(rows(COLUMNS, cells))
    return "\n".join(parts)


def main() -> None:
    page = ROOT / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{START}{tables()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
