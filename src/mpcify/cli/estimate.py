"""mpcify estimate MODEL: what a request will cost, without running it."""

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcify.cli.early import check_embeddings, check_plot, check_runnable
from mpcify.cli.options import AcceptEmbeddingLeak, Batch, Runnable, engine_options
from mpcify.cli.profile import Plot, draw_profile, parts_table
from mpcify.cli.verb import Answer, together, verb
from mpcify.engines import DEFAULT
from mpcify.engines.config import config_named, switches
from mpcify.errors import MpcifyWarning
from mpcify.files import refuse_unwritable

Embeddings = Annotated[str, typer.Option(help="client or one-hot.")]
Length = Annotated[int | None, typer.Option(min=2, help="Padded length. Default: 128, or what the model takes.")]
NetworkName = Annotated[str, typer.Option(metavar="lan|wan|RTT,GBIT", help="Round trip in ms and rate in Gbit/s.")]
Calibration = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="This machine's speeds; measured (some seconds) and kept if not there."),
]


class EstimateSettings:
    """Which engine's cost is estimated, and its settings: the values of `options`, by their names. Nothing runs."""

    def __init__(self, engine: str, **values: Any) -> None:
        self.engine, self.values = engine, values

    @staticmethod
    def options() -> dict[str, tuple[Any, Any]]:
        """The options by name, each with its default; no switches, which permit a run: nothing runs."""
        found = engine_options(
            protocol="aby3 (default) or semi2k.",
            ring="64 (default) or narrower.",
            fraction_bits="Default: 18, 12 in 64, 32.",
        )
        return {
            "engine": (Annotated[str, typer.Option(help="An engine with cost formulas.")], DEFAULT),
            **{name: option for name, option in found.items() if name not in switches()},
        }


@verb
def estimate(
    *,
    model: Runnable,
    settings: EstimateSettings,
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
    check_estimate(settings, network)
    if calibration is not None:
        refuse_unwritable(calibration)
    check_runnable(model)
    config = config_named(settings.engine, **settings.values).for_made_up_numbers()
    if calibration is None or not calibration.exists() or config.device != "cpu":
        config.build()  # it measures this machine, or says that its device is not there
    from mpcify.lowering.compile import compile
    from mpcify.measure.estimate import estimate as predict

    with compile(model, "plain", embeddings=embeddings, batch=batch, length=length) as private:
        found = predict(
            private,
            settings.engine,
            network=network,
            calibration=calibration,
            accept_embedding_leak=accept_embedding_leak,
            notice=lambda line: warnings.warn(MpcifyWarning(line), stacklevel=2),
            **settings.values,
        )
    if plot is not None:
        draw_profile(found, plot)
    needed = "" if found.sizing is None else found.sizing.lines()
    return Answer(found.to_json(), together(parts_table(found), needed, found.rings()))


def check_estimate(settings: EstimateSettings, network: str) -> None:
    """Raises MPC-501 for an engine, its settings or a network of which no cost is known."""
    from mpcify.measure.network import Network
    from mpcify.measure.speed import formulas_of

    Network.named(network)
    formulas_of(config_named(settings.engine, **settings.values))
