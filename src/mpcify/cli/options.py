"""The arguments and options that several verbs take, in the words of `mpcify.compile`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpcify.cli.early import check_embeddings, check_runnable
from mpcify.engines import DEFAULT, engine_named
from mpcify.engines.config import ENGINES, EngineConfig, config_named, settings, switches
from mpcify.graph.inputs import MOST_BATCH

if TYPE_CHECKING:
    from mpcify.inference import PrivateModel

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder that save_pretrained wrote, or a hub name.")]
Runnable = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder that save_pretrained or export wrote, or a hub name.")
]
RunnableOrNone = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A folder that save_pretrained or export wrote, or a hub name."),
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="A deployed client's folder, in place of MODEL: parties on other machines."),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")]
Batch = Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Requests at once.")]
AcceptEmbeddingLeak = Annotated[
    bool, typer.Option("--accept-embedding-leak", help="Clients may hold a fine-tuned embedding table.")
]


@dataclass(frozen=True)
class ColumnNames:
    """The columns of FILE that are read, in the words of `mpcify.data.files.read_examples`."""

    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="FILE's column of texts. Default: sentence, or sentence1.")
    ] = None
    pair_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="FILE's column of second texts. Default: sentence2.")
    ] = None
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="FILE's column of labels. Default: label.")
    ] = None

    def keywords(self) -> dict[str, Any]:
        """The keywords of `read_examples`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def refuse_without(self, option: str, file: str | None) -> None:
        """Raises a usage error if columns are named, and no FILE that could have them."""
        if file is None and any(self.keywords().values()):
            raise typer.BadParameter(f"columns are those of {option} FILE, which is not given")


def engine_name() -> tuple[Any, Any]:
    """The option that names an engine."""
    *first, last = ENGINES
    return Annotated[str, typer.Option(help=f"{', '.join(first)} or {last}.")], DEFAULT


def engine_options(**words: str) -> dict[str, tuple[Any, Any]]:
    """An option for each setting of the registered engines; None chooses an engine's own default.

    words: help that a verb gives of its own, by setting.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name, (kind, item) in settings().items():
        text = words.get(name, item.metadata["help"])
        if kind is bool:
            found[name] = Annotated[bool, typer.Option(f"--{name.replace('_', '-')}", help=text)], False
        else:
            found[name] = Annotated[kind | None, typer.Option(metavar=item.metadata["metavar"], help=text)], None
    return found


class EngineChoice:
    """An engine and its settings, and nothing of any request: the values of `options`, by their names."""

    def __init__(self, engine: str, **values: Any) -> None:
        self.engine, self.values = engine, values

    @staticmethod
    def options() -> dict[str, tuple[Any, Any]]:
        """The options by name, each with its default."""
        return {"engine": engine_name(), **engine_options()}

    def config(self) -> EngineConfig:
        """The engine's config. Raises MPC-501."""
        return config_named(self.engine, **self.values)


class EngineSettings:
    """Which engine runs a model, and how: the values of `options`, by their names."""

    def __init__(self, engine: str, **values: Any) -> None:
        self.engine, self.values = engine, values

    @staticmethod
    def options() -> dict[str, tuple[Any, Any]]:
        """The options by name, each with its default: those of the engines between those of every request."""
        of_engines, permits = engine_options(), switches()
        return {
            "engine": engine_name(),
            **{name: option for name, option in of_engines.items() if name not in permits},
            **REQUEST,
            **{name: option for name, option in of_engines.items() if name in permits},
            "accept_embedding_leak": (AcceptEmbeddingLeak, False),
        }

    def check(self) -> None:
        """Raises MPC-501, 502 and 504 for an engine, or settings, that there are not."""
        check_embeddings(self.values["embeddings"])
        engine_named(self.engine, **{name: self.values[name] for name in engine_options()})

    def keywords(self) -> dict[str, Any]:
        """The keywords of `mpcify.compile`."""
        return {"engine": self.engine, **self.values}

    def check_model(self, model: str | None, cluster: str | None) -> None:
        """Raises a usage error unless there is a model or a cluster, and what is wrong with either for sure.

        A cluster's settings stand in its cluster.toml: none but those of a request may be given.
        """
        if (model is None) == (cluster is None):
            raise typer.BadParameter("give either MODEL or --cluster FOLDER")
        if model is not None:
            self.check()
            check_runnable(model)
            return
        given = {**self.keywords(), "length": None, "truncate": False}
        for name, (_, default) in self.options().items():
            if given[name] != default:
                flag = f"--{name.replace('_', '-')}"
                raise typer.BadParameter(f"{flag} stands in the cluster.toml of --cluster, and is not given beside it")

    def open(self, model: str | None, cluster: str | None) -> "PrivateModel":
        """The model on its engine, or at the parties of a cluster; `check_model` comes first."""
        if cluster is not None:
            from mpcify.cluster.connect import connect

            return connect(cluster, length=self.values["length"], truncate=self.values["truncate"])
        from mpcify.lowering.compile import compile

        assert model is not None
        return compile(model, **self.keywords())


REQUEST: dict[str, tuple[Any, Any]] = {
    "embeddings": (
        Annotated[
            str, typer.Option(help="client: it looks tokens up in a table it holds; one-hot: the table stays secret.")
        ],
        "client",
    ),
    "batch": (Batch, 1),
    "length": (
        Annotated[
            int | None, typer.Option(min=2, help="Padded length of every text. Default: each text's smallest bucket.")
        ],
        None,
    ),
    "truncate": (
        Annotated[bool, typer.Option("--truncate", help="Cut texts that are too long, and say how many.")],
        False,
    ),
}
