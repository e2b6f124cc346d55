"""The demo's result as one table, and a line below it."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from mpcify.engines.cost import line

COLUMNS = ("", "plain", "fixed", "private", "agreement", "seconds", "MB", "rounds", "speed-up")  # fits 80 characters


def table(values: Mapping[str, Any]) -> Table:
    """What `run` returned, for people: accuracies, and the cost of one private request."""
    student, private, baselines = values["student"], values["private"], values["baselines"]
    slowest = baselines["puma"]["cost"]["seconds"]
    title = f"Recipe {student['recipe']}: accuracy, and the cost of a private request"
    made = Table(title=title, caption=caption(values), box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    made.title_justify = made.caption_justify = "left"
    for name in COLUMNS:
        made.add_column(name, justify="right" if name else "left")
    made.add_row("counting words", percent(values["bag_of_words"]["accuracy"]))
    made.add_row("teacher", percent(values["teacher"]["accuracy"]))
    accuracies = (
        student["accuracy"],
        values["fixed"]["accuracy"],
        private["accuracy"],
        private["agreement_with_plain"],
    )
    made.add_row("student", *map(percent, accuracies), *price(private["cost"], slowest))
    for engine, row in values["beside"].items():
        answers = map(percent, (row["accuracy"], row["agreement_with_plain"]))
        made.add_row(f"student, {engine}", "", "", *answers, *price(row["cost"], slowest))
    for recipe, row in baselines.items():
        made.add_row(recipe, "", "", "", "", *price(row["cost"], slowest))
    return made


def parties_line(values: Mapping[str, Any]) -> str:
    """What the parties answered as processes of their own, a line an engine."""
    rows = {values["private"]["engine"]: values["parties"]}
    rows |= {engine: row["parties"] for engine, row in values["beside"].items()}
    lines = []
    for engine, parties in rows.items():
        equal, cost = round(parties["agreement_with_simulation"] * parties["examples"]), line(parties["cost"])
        asked = f"Asked of {engine}'s three parties in processes of their own, over mutual TLS: {equal} of"
        lines.append(f"{asked} {parties['examples']} answers are the simulation's; one request took {cost}.")
    return "\n".join(lines)


def percent(share: float) -> str:
    """A share of examples."""
    return f"{share:.1%}"


def price(cost: Mapping[str, Any], slowest: float) -> tuple[str, str, str, str]:
    """Seconds, megabytes, rounds, and how many times as fast as the slowest."""
    speedup = f"{slowest / cost['seconds']:.2f}×"
    return f"{cost['seconds']:.3f}", f"{cost['bytes'] / 1e6:.1f}", str(cost["rounds"]), speedup


def caption(values: Mapping[str, Any]) -> str:
    """What the numbers are of."""
    ahead = "; of an engine that works ahead of a request, that is counted" if values["beside"] else ""
    data, private = values["data"], values["private"]
    ring, engine = values["fixed"]["ring"], f"{private['engine']} {private['protocol']}, ring 2^{private['ring']}"
    return (
        f"Accuracy on {data['test']} sentences in floats and in fixed point (ring 2^{ring}), on {private['examples']} "
        f"of them in private ({engine}, all parties on this machine). Agreement: private answers that equal the plain "
        f"ones. Seconds, MB, rounds: medians of one request of {data['length']} tokens, taking turns{ahead}; puma "
        f"and mpcformer are timed with the teacher's weights, not distilled. All of it took {values['seconds']:.0f} s."
    )
