"""`mpcify.connect`: the model of a deployed client's folder, whichever sort of client it is."""

from pathlib import Path

from mpcify.cluster.thin.config import is_thin
from mpcify.inference import PrivateModel


def connect(folder: str | Path, *, length: int | None = None, truncate: bool = False) -> PrivateModel:
    """The model of a deployed client's folder, or of a thin client's, whose parties are on machines of their own.

    It asks and answers as what `mpcify.compile` gives, and needs no torch; a thin client needs no gRPC either. A
    client's session opens at once; if it breaks, the request that ran raises, and the next opens another. length: one
    padded length for all texts, None: each text's smallest. truncate: cut longer texts.

    Raises MPC-404 for the exported model, MPC-701 and MPC-702 for the folder, MPC-703 if a party is not reached,
    MPC-704 if one refuses, MPC-705 if they do not agree, and MPC-709 if one refuses a thin client's token.
    """
    if is_thin(folder):
        from mpcify.cluster.thin.client import connect_thin

        return connect_thin(folder, length=length, truncate=truncate)
    from mpcify.cluster import deployed

    return deployed.connect(folder, length=length, truncate=truncate)
