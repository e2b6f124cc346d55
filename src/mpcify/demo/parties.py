"""The demo's last step: the student's parties as processes of their own, which meet as on machines of their own."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpcify.cluster.deployed import connect
from mpcify.cluster.local import LocalParties, deploy_here
from mpcify.engines.config import config_named
from mpcify.engines.cost import median
from mpcify.graph.exported import Exported, write
from mpcify.progress import Stage


def ask_parties(
    exported: Exported, engine: str, length: int, texts: Sequence[str], simulated: np.ndarray, stage: Stage
) -> dict[str, Any]:
    """Asks an engine's other parties and this process as the client, over mutual TLS on the loopback, a text a request.

    length: padded, of every text. simulated: the simulation's logits (N, labels). Returns examples (N),
    agreement_with_simulation (the share of equal answers) and cost, the median of one request. Folders and processes
    are gone afterwards, however it ends. Raises what `LocalParties` and `connect` raise.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mpcify-parties-") as place,
        stage(f"three processes, {engine}", len(texts)) as advance,
    ):
        (parties := Path(place) / "parties").mkdir()
        write(exported, [length], parties)
        deployment = deploy_here(parties, Path(place) / "cluster", config_named(engine))
        with LocalParties(deployment), connect(deployment / "client", length=length) as private:
            answers = []
            for text in texts:
                answers.append(private([text]))
                advance(len(answers))
    logits = np.concatenate([found for found, _ in answers])
    return {
        "examples": len(texts),
        "agreement_with_simulation": exported.about.task.agreement(logits, simulated),
        "cost": median([cost for _, cost in answers]).to_json(),
    }
