"""Whether this process is one of several that train together: what torchrun and accelerate leave in the environment.

A process that only finds such variables would wait for its peers for half an hour, deaf to signals: it is refused.
"""

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpcify.errors import MpcifyError

LAUNCHED = "TORCHELASTIC_RUN_ID"  # torchrun sets it, and so does accelerate launch, which starts torchrun
SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_RANK")
# of accelerate: what asks for another training than ours, and the words that do not
ANOTHER_TRAINING = {
    "ACCELERATE_USE_DEEPSPEED": ("false", "0"),
    "ACCELERATE_USE_FSDP": ("false", "0"),
    "ACCELERATE_USE_MEGATRON_LM": ("false", "0"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("false", "0"),
    "ACCELERATE_MIXED_PRECISION": ("no", "fp32"),
    "ACCELERATE_DYNAMO_BACKEND": ("no",),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",),
    "ACCELERATE_USE_CPU": ("true", "false", "1", "0", "yes", "no"),
}
WAIT = 10.0  # seconds for the launcher to answer
START = "torchrun --nproc-per-node N -m mpcify distill …, or accelerate launch --num_processes N -m mpcify distill …"


@dataclass(frozen=True)
class Launch:
    """rank: of this process, 0 … size − 1."""

    rank: int = 0
    size: int = 1


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """How this process was started. Raises MPC-606 if the environment speaks of peers that no launcher started."""
    for name, harmless in ANOTHER_TRAINING.items():
        value = environment.get(name, "")
        if value and value.lower() not in harmless:
            what = f"the environment asks for a training that there is not ({name}={value[:20]})"
            raise MpcifyError(606, "environment", what, f"unset {name}")
    found = [name for name in (*SIZES, *RANKS) if environment.get(name, "") != ""]
    if LAUNCHED not in environment:
        found = [name for name in found if not (name in SIZES and environment[name].strip() == "1")]
        if found:
            what = f"{', '.join(found)} stand for a parallel run, but no launcher started this process"
            raise MpcifyError(
                606, "environment", what, f"unset {'it' if len(found) == 1 else 'them'}, or start {START}"
            )
        return Launch()
    try:
        launch = Launch(int(environment["RANK"]), int(environment["WORLD_SIZE"]))
        whole = 0 <= launch.rank < launch.size and int(environment["LOCAL_RANK"]) >= 0
    except (KeyError, ValueError):
        whole = False
    if not whole or not meets(environment):
        what = f"{LAUNCHED} is set, but RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT lead to no launcher"
        raise MpcifyError(606, "environment", what, f"unset them, or start {START}")
    return launch


def meets(environment: Mapping[str, str]) -> bool:
    """Whether the launcher answers at the address that the environment gives; it does so before it starts a process."""
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE")
    if hosted == "False":  # the first process is where they meet, and may not be there yet
        return True
    try:
        socket.create_connection((environment["MASTER_ADDR"], int(environment["MASTER_PORT"])), WAIT).close()
    except (KeyError, ValueError, OSError, OverflowError):
        return False
    return hosted == "True"


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """The rank of a process that a launcher started, else 0: what is said once is said by rank 0."""
    found = environment.get("RANK", "0") if LAUNCHED in environment else "0"
    return int(found) if found.isdigit() else 0


def first_to_fail(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether no other process of this launch (on this machine) has failed before: only the first one's error counts.

    An empty file named after the launcher's process is the mark; one process alone is always the first.
    """
    if LAUNCHED not in environment:
        return True
    try:
        began = Path(f"/proc/{os.getppid()}/stat").read_text().rsplit(")", 1)[1].split()[19]
        name = f"mpcify-failed-{os.getppid()}-{began}-{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        os.close(os.open(Path(tempfile.gettempdir()) / name, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    except OSError:
        pass
    return True
