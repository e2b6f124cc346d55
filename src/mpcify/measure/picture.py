"""Pictures of costs: stacked bars by part, as PNG or as one HTML file that needs nothing else."""

import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from mpcify.extras import require
from mpcify.files import write_whole
from mpcify.measure.profile import PARTS, Profile

MEASURES = (("seconds", 1.0, "seconds"), ("bytes", 1e6, "MB sent"), ("rounds", 1.0, "rounds"))
COLOURS = dict(zip(PARTS, ("#bab0ac", "#4e79a7", "#e15759", "#f28e2b", "#59a14f", "#9c755f"), strict=True))
Bars = Mapping[str, Mapping[str, Mapping[str, float]]]  # bar → part → measure


def draw_profile(profile: Profile, path: Path) -> None:
    """One bar a layer."""
    about = profile.about
    title = f"{about['model']} ({about['recipe']}), {about['engine']}, length {about['length']}, batch {about['batch']}"
    draw(profile.by_layer(), title, path)


def draw(bars: Bars, title: str, path: Path) -> None:
    """Stacked horizontal bars side by side for seconds, bytes and rounds; written whole or not at all.

    Raises MPC-504 without matplotlib, MPC-109 if the disk refuses.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 1.6 + 0.42 * len(bars)), layout="constrained")
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    names = list(bars)
    for panel, (measure, unit, label) in zip(panels, MEASURES, strict=True):
        starts = dict.fromkeys(names, 0.0)
        for part in PARTS:
            values = [bars[name].get(part, {}).get(measure, 0.0) / unit for name in names]
            panel.barh(names, values, left=list(starts.values()), color=COLOURS[part], label=part, height=0.7)
            starts = {name: starts[name] + value for name, value in zip(names, values, strict=True)}
        for name, end in starts.items():
            panel.text(end, name, f" {end:,.0f}" if end >= 1000 else f" {end:.3g}", va="center", fontsize=8)
        panel.set_xlabel(label)
        panel.margins(x=0.14)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="svg" if path.suffix == ".html" else "png", dpi=130, metadata=None)
    content = page(title, bars, written.getvalue().decode()) if path.suffix == ".html" else written.getvalue()
    write_whole(path, content)


def page(title: str, bars: Bars, drawn: str) -> bytes:
    """The picture and its numbers as one HTML page."""
    heads = "".join(f"<th>{escape(label)}</th>" for _, _, label in MEASURES)
    rows = "".join(line(name, part, values) for name, parts in bars.items() for part, values in parts.items())
    text = f"""<!doctype html><meta charset="utf-8"><title>{escape(title)}</title>
<style>body{{font:14px sans-serif;margin:2em}}td,th{{padding:.1em 1em;text-align:right}}</style>
{drawn[drawn.index("<svg") :]}
<table><tr><th></th><th>kind</th>{heads}</tr>{rows}</table>
"""
    return text.encode()


def line(name: str, part: str, values: Mapping[str, Any]) -> str:
    """A row of the page's table; nothing if nothing was spent."""
    if not any(values.values()):
        return ""
    cells = "".join(f"<td>{values[measure] / unit:.4g}</td>" for measure, unit, _ in MEASURES)
    return f"<tr><td>{escape(name)}</td><td>{escape(part)}</td>{cells}</tr>"
