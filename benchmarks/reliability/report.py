"""Writes the tables of docs/reliability.md from the committed results.

python -m benchmarks.reliability.report
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.readme import rows
from mpcify.files import write_whole

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"
MARKS = ("<!-- tables: made by benchmarks/reliability/report.py -->\n", "<!-- end of tables -->")
SECONDS = "seconds: median / 95th percentile / most"
PHASES = ("handshake", "weights", "inference", "idle")
Result = dict[str, Any]


def read(name: str, folder: Path = RESULTS) -> Result:
    """A result by the name of its file."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def link(name: str) -> str:
    """A link from the page to a result."""
    return f"[{name}](../benchmarks/results/reliability/{name}.json)"


def loads(names: Iterable[str]) -> Iterator[list[str]]:
    """One row a model: what became of the requests."""
    for name in names:
        run = read(name)
        yield [
            link(name),
            str(run["requests"]),
            str(run["callers"]),
            str(run["answered"]),
            str(run["mixed_up"]),
            f"{run['max_logit_error']:.4f} (tolerance {run['tolerance']:g}, texts {run['apart']:g} apart)",
            str(run["sessions"]),
            f"{run['load_average']:g}",
        ]


def latencies(names: Iterable[str]) -> Iterator[list[str]]:
    """One row a model: seconds by quarter."""
    for name in names:
        run = read(name)
        for what, key in (("with waiting for the others", "latency"), ("the request alone", "request")):
            cells = (f"{part['median']:.1f} / {part['p95']:.1f} / {part['most']:.1f}" for part in run[key])
            yield [link(name), what, *cells]


def memories(names: Iterable[str]) -> Iterator[list[str]]:
    """One row a process: MiB by quarter."""
    for name in names:
        run = read(name)
        for process, sizes in run["memory_mib"].items():
            yield [link(name), process, *(f"{size:.1f}" for size in sizes), f"{100 * growth(sizes):+.1f} %"]


def growth(sizes: list[float]) -> float:
    """By how much of it the last quarter's median exceeds the second one's."""
    return sizes[-1] / sizes[1] - 1


def restarts(name: str) -> list[str]:
    """The row of parties that were stopped and started again under load."""
    run = read(name)
    spent, codes = run["latency"], ", ".join(map(str, run["exit_codes"]))
    seconds = " / ".join(f"{spent[key]:.1f}" for key in ("median", "p95", "most"))
    counts = (run["restarts"], run["callers"], run["requests"], run["right"], len(run["failed"]))
    return [link(name), *map(str, counts), codes, seconds]


def speeds() -> Iterator[list[str]]:
    """Seconds of one request: a simulation and processes in turns, hosts of their own at two rates."""
    run = read("speed")
    base, medians = run["bert_base"], run["bert_base"]["median_seconds"]
    for name, what in (("simulation", "a simulation, one process"), ("processes", "three processes, loopback")):
        ratio = f"{base['ratio']:.2f}" if name == "processes" else "1"
        yield [link("speed"), what, str(base["layers"]), f"{medians[name]:.2f}", ratio, str(base["rounds"][name])]
    for name, engine in (("hosts", "spu"), ("hosts-ring", "ring")):
        whole = read(name)
        for row in whole["runs"]:
            rate = "unshaped lines" if row["gigabits"] is None else f"{row['gigabits']:g} Gbit/s"
            apart = f", {row['online']['seconds']:.2f} s of it online" if "online" in row else ""
            cells = (f"{row['seconds_a_request']:.2f}", "", str(row["rounds_a_request"]))
            yield [link(name), f"three network namespaces, {rate}, {engine}{apart}", str(whole["layers"]), *cells]


def layer(run: Result) -> Iterator[list[str]]:
    """One row a recipe, engine and network: what was measured, and what an estimate says."""
    for network in run["runs"]:
        lines = (
            "as fast as the machine"
            if network["network"] is None
            else f"{network['round_trip_ms']:.2f} ms, {network['network'].split(',')[1]} Gbit/s"
        )
        for row in network["rows"]:
            spent = (f"{row['seconds']:.3f}", f"{row['seconds_at_client']:.3f}")
            told = (f"{row['told_seconds']:.3f}", f"{100 * row['error']:+.0f} %") if "told" in row else ("", "")
            yield [row["recipe"], row["engine"], lines, *spent, *told]


def in_a_row() -> str:
    """What holds of requests one after the other in a session, and of the gateway."""
    run, gateway = read("speed")["minilm"], read("gateway")
    seconds = ", ".join(f"{one:.2f}" for one in run["quarters"])
    return (
        f"{run['requests']} requests of a MiniLM one after the other in one session: medians of the quarters {seconds} "
        f"s; the owner shared {run['bytes_of_weights'] / 1e6:.0f} MB of weights before the first and "
        f"{run['bytes_of_weights_after']} bytes after it. The [gateway](how-to/gateway.md) adds "
        f"{gateway['added_ms']:.1f} ms to a request ({link('gateway')}).\n"
    )


def fuzzed() -> Iterator[list[str]]:
    """One row a reader of peers' bytes: what random and mutated inputs did."""
    for reader, found in read("fuzz")["readers"].items():
        yield [reader, f"{found['inputs']:,}", "yes" if found["failed"] else "none"]


def seen(row: Result) -> str:
    """What the client saw of a fault."""
    if row["saw"] == "gone":
        return "–"
    return f"{row['saw']}, {row['seconds']:.1f} s{'*' if row['mended_before'] else ''}"


def faults(run: Result) -> Iterator[list[str]]:
    """One row a fault that happens in phases: what the client saw in each, and the longest way back."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for row in run["rows"]:
        if row["phase"] in PHASES:
            found.setdefault((row["fault"], row["where"]), {})[row["phase"]] = row
    for (fault, where), by_phase in found.items():
        cells = (seen(by_phase[phase]) if phase in by_phase else "" for phase in PHASES)
        yield [fault, where, *cells, back(by_phase.values())]


def others(run: Result) -> Iterator[list[str]]:
    """One row a fault that belongs to no phase."""
    for row in run["rows"]:
        if row["phase"] not in PHASES:
            code = row.get("exit_code")
            yield [row["fault"], row["where"], seen(row), "" if code is None else str(code), back([row])]


def back(found: Iterable[Result]) -> str:
    """The longest that it took until an answer was right again."""
    spent = [row["seconds_until_right"] for row in found]
    return "never" if None in spent else f"{max(spent):.1f} s"


def summary(run: Result) -> str:
    """What holds for all faults."""
    found = run["rows"]
    first = sum(row["seconds_until_right"] is not None and row["tries"] == 1 for row in found)
    alone = sum(row["others_ran_on"] for row in found)
    wrong = sum(row["saw"] == "wrong" for row in found)
    slowest = max(row["seconds"] or 0 for row in found if not row["mended_before"] and row["phase"] in PHASES)
    return (
        f"{len(found)} faults ({link('faults')}), on a machine with a load of {run['load_average']:g}. Wrong answers: "
        f"{wrong}. Afterwards the first request was answered right {first} times of {len(found)}, and the other "
        f"parties ran on {alone} times of {len(found)}. Without any mending the client knew within {slowest:.1f} s.\n"
    )


def tables() -> str:
    """Every table, under its heading."""
    names = [f"load-{model}" for model in ("small", "minilm") if (RESULTS / f"load-{model}.json").is_file()]
    run = read("faults")
    quarters = [f"quarter {place}" for place in range(1, 5)]
    sections = (
        (
            "One request",
            in_a_row(),
            ("result", "where", "layers", "s", "× simulation", "rounds"),
            speeds(),
        ),
        (
            "Many requests at once",
            "",
            ("result", "requests", "callers", "answered", "mixed up", "largest error of a logit", "sessions", "load"),
            loads(names),
        ),
        (
            f"Latency, {SECONDS}",
            "",
            ("result", "what", *quarters),
            latencies(names),
        ),
        (
            "Memory, MiB",
            "",
            ("result", "process", *quarters, "4th over 2nd"),
            memories(names),
        ),
        (
            "Parties stopped by SIGTERM and started again while callers ask on",
            "",
            ("result", "restarts", "callers", "requests", "right", "failed", "exit codes", SECONDS),
            [restarts("restarts")],
        ),
        (
            "Faults in the middle of a phase: what the client saw, and when",
            summary(run),
            ("fault", "where", *PHASES, "right again within"),
            faults(run),
        ),
        (
            "Other faults",
            "",
            ("fault", "where", "client saw", "exit code of SIGTERM", "right again within"),
            others(run),
        ),
        (
            "Random bytes",
            f"What reads a peer's bytes, or a file that people edit, under a fuzzer ({link('fuzz')}).\n",
            ("reader", "inputs", "failures"),
            fuzzed(),
        ),
    )
    if (RESULTS / "layer.json").is_file():
        found = read("layer")
        text = (
            "One layer of BERT-base with embedding and head, 128 tokens, by hosts in network namespaces over mutual "
            f"TLS, in turns ({link('layer')}), medians of {found['repeat']} turns, load {found['load_average']:g}. s: "
            "without what is dealt ahead; at the client: of its whole call. The estimate is for machines of their "
            "own.\n"
        )
        columns = ("recipe", "engine", "lines", "s", "at the client", "estimated", "error")
        sections = (sections[0], ("One layer, measured and estimated", text, columns, layer(found)), *sections[1:])
    return "\n".join(
        f"## {heading}\n\n{f'{text}{chr(10)}' if text else ''}{rows(columns, cells)}"
        for heading, text, columns, cells in sections
    )


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    write_whole(PAGE, f"{before}{MARKS[0]}{tables()}{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
