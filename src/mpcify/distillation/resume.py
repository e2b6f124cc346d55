"""The folder in which a training keeps its checkpoints until OUT is written, and what a run finds that goes on."""

import json
from pathlib import Path
from typing import Any

from mpcify.errors import MpcifyError
from mpcify.files import new_folder, refuse_taken, write_whole
from mpcify.jsontext import read_json

RUN = "distillation.json"  # what a run that is resumed must share
STATE = "trainer_state.json"  # Trainer writes it last, so a checkpoint that has it is whole


def training_folder(out: str | Path) -> Path:
    """Where the training of OUT keeps its checkpoints."""
    return Path(f"{Path(out).resolve()}-training")


def look(folder: Path, resume: bool) -> tuple[dict[str, Any], Path | None]:
    """What an earlier run left: its settings and its last whole checkpoint; {} and None if there is none.

    Raises MPC-601 if there is nothing to resume, or a run left unfinished that is not to be resumed; MPC-109 if the
    folder holds something else.
    """
    if not (folder / RUN).is_file():
        refuse_taken(folder)
        if resume:
            raise MpcifyError(601, str(folder), "there is no run to resume", "start it without --resume")
        return {}, None
    found = sorted(folder.glob(f"checkpoint-*/{STATE}"), key=lambda path: int(path.parent.name.split("-")[1]))
    if not found:
        return {}, None
    if not resume:
        raise MpcifyError(601, str(folder), "a run was left unfinished there", "add --resume, or remove the folder")
    try:
        before = read_json(folder / RUN)
        if not isinstance(before, dict):
            raise ValueError
    except ValueError:
        raise MpcifyError(601, str(folder / RUN), "the run's record cannot be read", "remove the folder") from None
    return before, found[-1].parent


def take_up(folder: Path, run: dict[str, Any], resume: bool, write: bool = True) -> Path | None:
    """Prepares the training folder; the last whole checkpoint in it if the run is resumed and has one.

    write: of several processes, one keeps the record. Raises what `look` raises, and MPC-601 for another run's
    checkpoints.
    """
    before, checkpoint = look(folder, resume)
    wanted = json.loads(json.dumps(run))
    changed = [name for name in wanted if before.get(name) != wanted[name]]
    if checkpoint is not None and changed:
        remedy = "resume with what the run was started with, or remove the folder"
        raise MpcifyError(601, str(folder), f"the run was started with another {changed[0]}", remedy)
    if write and (folder / RUN).is_file():
        write_whole(folder / RUN, json.dumps(run))
    elif write:  # at once with its record: another process of the run would take a folder without one for a stranger's
        with new_folder(folder) as draft:
            write_whole(draft / RUN, json.dumps(run))
    return checkpoint
