"""The student's model card: what was measured, and how it was made."""

from collections.abc import Mapping
from pathlib import Path

from mpcify.distillation.kept import changes
from mpcify.distillation.settings import Distilled, Settings
from mpcify.recipe import Recipe
from mpcify.replacements.forms import FORMS
from mpcify.requests.text import BUCKETS


def card(
    result: Distilled, settings: Settings, recipe: Recipe, versions: Mapping[str, str], command: str | None = None
) -> str:
    """The card as Markdown, with the metadata that model hubs read. command: what made the student, if known."""
    parts = [
        front_matter(result),
        introduction(result, recipe),
        measured(result, settings),
        making(result, settings, versions, command),
        leakage(result),
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(result: Distilled) -> str:
    """The metadata."""
    task = "image-classification" if result.task.images else "text-classification"
    return f"---\nlibrary_name: mpcify\npipeline_tag: {task}\ntags: [mpcify, secure-multi-party-computation]\n---"


def introduction(result: Distilled, recipe: Recipe) -> str:
    """What the model is, and how it is loaded."""
    name = Path(result.model).name
    made = (
        f"A student of `{result.teacher_model}` for private prediction by secure multi-party computation, made by "
        f"mpcify with the recipe `{result.recipe}` ({described(recipe)})."
    )
    only = (
        "Only mpcify loads it: `transformers.AutoModel` refuses, since with the exact functions its answers would be "
        "wrong."
    )
    code = [
        "```python",
        "import mpcify",
        "",
        f'with mpcify.compile("{name}", engine="spu") as private:',
        "    answers = private.classify([...])",
        "```",
    ]
    return "\n\n".join([f"# {name}", f"{made} {only}", "\n".join(code)])


def described(recipe: Recipe) -> str:
    """A recipe in words."""
    attention, activation = (
        names if isinstance(names, str) else " then ".join(names) for names in (recipe.attention, recipe.activation)
    )
    names = (recipe.attention,) if isinstance(recipe.attention, str) else recipe.attention
    power = f", t = {recipe.t}" if any(FORMS[name].power.steep for name in names) else ""
    return f"attention {attention}{', centred keys' if recipe.centre_keys else ''}{power}; activation {activation}"


def measured(result: Distilled, settings: Settings) -> str:
    """The metrics of teacher and student."""
    cut = "" if result.task.images else f", of texts cut to {settings.max_length} tokens"
    rows = [
        f"| {name} | {decimals(result.teacher.get(name))} | {decimals(value)} |"
        for name, value in result.student.items()
    ]
    table = "\n".join(["| | teacher | student |", "|---|---|---|", *rows]) + "\n\n" if rows else ""
    place = f"On {result.examples} examples of `{result.evaluation_source}`, in plain floats{cut}:"
    same = f"The student answers as its teacher does on {100 * result.agreement:.2f} % of them."
    return f"## Measured\n\n{place}\n\n{table}{same}"


def decimals(value: float | None) -> str:
    """Four decimals, or a dash if there is no such value."""
    return "–" if value is None else f"{value:.4f}"


def making(result: Distilled, settings: Settings, versions: Mapping[str, str], command: str | None) -> str:
    """How the student was made."""
    weights = settings.to_json()["weights"]
    trained = result.best_epoch > 0
    best = f"after epoch {result.best_epoch:g}" if trained else "as calibrated, before the first epoch"
    best = f"{best} of {settings.epochs:g}, of least loss on the rows held out{' after an epoch' if trained else ''}"
    rows = {
        "training data": f"`{result.train_source}`, {result.train_examples} rows, of them {result.held_out} held out",
        "taught on": "" if result.task.images else pieces_of(result),
        "best checkpoint": best,
        "as calibrated → kept": became(result),
        "learning rate, batch size": f"{settings.learning_rate:g}, {settings.batch_size}",
        "matrix products": f"{settings.precision} in training, float32 in what was measured",
        "longest text": "" if result.task.images else f"{settings.max_length} tokens",
        "loss weights": ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight),
        "seed": str(settings.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items() if value)])
    then = "then distilled" if trained else "and kept so, as no training brought less loss"
    made = f"## Made\n\nCalibrated layer by layer, {then}; training used no labels.\n\n{table}"
    return made if command is None else f"{made}\n\n```\n{command}\n```"


def became(result: Distilled) -> str:
    """What training changed in what was measured; "" if no epoch is kept."""
    kept = [epoch for epoch in result.epochs if epoch["epoch"] == result.best_epoch > 0]
    return ", ".join(words for epoch in kept for words, _ in changes(result.epochs[0], epoch))


def pieces_of(result: Distilled) -> str:
    """What the student that is kept saw: an epoch's texts and pieces, or those of calibration."""
    if not result.best_epoch:
        return "what calibration saw alone"
    general = f", half of them of {result.general_texts} other texts" if result.general_texts else ""
    return f"the texts, and as many pieces, cut, joined or with other words{general}"


def leakage(result: Distilled) -> str:
    """What a private prediction reveals, and to whom."""
    length = f", and the padded length of each text ({', '.join(map(str, BUCKETS[:-1]))} or {BUCKETS[-1]} tokens)"
    if result.task.images:
        length, table = "", "The client's image is shared as secret patches."
    elif result.base:
        table = (
            f"The word-embedding table is the public one of `{result.base.name}`, frozen (SHA-256 "
            f"`{result.base.sha256}`): clients look their tokens up by themselves."
        )
    else:
        table = (
            "The word-embedding table is the owner's secret: it stays so with `--embeddings one-hot`; otherwise the "
            "client holds it."
        )
    seen = f"To every party: the architecture, the recipe, the labels' names, that a request is made{length}."
    answer = (
        "The answer goes to the client alone. Whoever sees many answers can imitate the model, or learn something of "
        "its training data; secure computation does not prevent that. All this holds for parties on machines of "
        "their own: a run that simulates them on one machine protects nothing."
    )
    return f"## What leaks\n\n{seen} {table} {answer}"
