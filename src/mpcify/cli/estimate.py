"""mpcify estimate MODEL: what a request will cost, without running it."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from mpcify.cli.early import check_embeddings, check_plot, check_runnable
from mpcify.cli.options import AcceptEmbeddingLeak, Runnable
from mpcify.cli.profile import Plot, draw_profile, kinds_table
from mpcify.cli.verb import Answer, verb
from mpcify.errors import MpcifyWarning
from mpcify.extras import require
from mpcify.paths import refuse_unwritable

Protocol = Annotated[str, typer.Option(help="aby3 or semi2k.")]
Ring = Annotated[int, typer.Option(metavar="BITS", help="64 or 32.")]
FractionBits = Annotated[int | None, typer.Option(metavar="F", help="Default: 18, 12 in 64, 32.")]
Embeddings = Annotated[str, typer.Option(help="client or one-hot.")]
Batch = Annotated[int, typer.Option(min=1, help="Requests at once.")]
Length = Annotated[int | None, typer.Option(min=2, help="Padded length. Default: 128, or what the model takes.")]
NetworkName = Annotated[str, typer.Option(metavar="lan|wan|RTT,GBIT", help="Round trip in ms and rate in Gbit/s.")]
Calibration = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="This machine's speeds; measured (some seconds) and kept where not there."),
]


@verb
def estimate(
    model: Runnable,
    protocol: Protocol = "aby3",
    ring: Ring = 64,
    fraction_bits: FractionBits = None,
    embeddings: Embeddings = "client",
    batch: Batch = 1,
    length: Length = None,
    network: NetworkName = "lan",
    calibration: Calibration = None,
    accept_embedding_leak: AcceptEmbeddingLeak = False,
    plot: Plot = None,
) -> Answer:
    """Tell a request's bytes, rounds and seconds from the graph alone, at this machine's speeds."""
    check_plot(plot)
    check_embeddings(embeddings)
    check_estimate(protocol, ring, fraction_bits, network)
    if calibration is not None:
        refuse_unwritable(calibration)
    check_runnable(model)
    if calibration is None or not calibration.exists():
        require("spu")  # to measure this machine's speeds with
    from mpcify.lowering.compile import compile
    from mpcify.measure.estimate import estimate as predict

    with compile(model, "plain", embeddings=embeddings, batch=batch, length=length) as private:
        found = predict(
            private,
            protocol=protocol,
            ring=ring,
            fraction_bits=fraction_bits,
            network=network,
            calibration=calibration,
            accept_embedding_leak=accept_embedding_leak,
            notice=lambda line: warnings.warn(MpcifyWarning(line), stacklevel=2),
        )
    if plot is not None:
        draw_profile(found, plot)
    return Answer(found.to_json(), kinds_table(found))


def check_estimate(protocol: str, ring: int, fraction_bits: int | None, network: str) -> None:
    """Raises MPC-501 for a protocol, a ring or a network that no cost can be told of."""
    from mpcify.engines.spu.formulas import Formulas
    from mpcify.engines.spu.settings import Settings
    from mpcify.measure.network import Network
    from mpcify.numerics import FixedPoint

    Network.named(network)
    Formulas(Settings(protocol, FixedPoint.of(ring, fraction_bits)))
