"""What a training shows of its progress."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback
from transformers.utils import logging

from mpcify.progress import Progress, lines


@contextmanager
def without_bars() -> Iterator[None]:
    """While open, transformers shows no progress bars of its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class EpochProgress(TrainerCallback):
    """A progress bar, or a line now and then if nobody watches, and a line an epoch, on stderr: stdout belongs to the
    answer.
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.line: Progress = lambda done: None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Opens the bar as the run begins, or is taken up again."""
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="distill", unit="step", disable=None)
        self.line = lines("distillation, steps", state.max_steps) if self.bar.disable else lambda done: None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step further."""
        self.bar.update(1)
        self.line(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **_: Any) -> None:
        """A line of what was measured."""
        if self.bar is None:
            return
        known = ("divergence", "agreement", "accuracy", "pearson", "spearman")
        found = [(name.split("_"), value) for name, value in metrics.items()]
        words = [f"{parts[-1]} {value:.4f}" for parts, value in found if parts[-1] in known]
        place = next((parts[1] for parts, _ in found if parts[-1] in known), "")
        epochs = f"{state.epoch or 0:g}/{args.num_train_epochs:g}"
        self.bar.write(f"epoch {epochs} {place}: {', '.join(words)}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Closes the bar."""
        self.bar.close()
        self.bar = None
