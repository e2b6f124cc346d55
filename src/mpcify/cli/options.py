"""The arguments and options that several verbs take, in the words of `mpcify.compile`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcify.cli.early import check_engine

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder that save_pretrained wrote, or a hub name.")]
Runnable = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder that save_pretrained or export wrote, or a hub name.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")]
Data = Annotated[str, typer.Option(metavar="FILE", help="TSV, CSV or JSONL, or name:split of a data set.")]
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
        """Raises a usage error where columns are named, and no FILE that could have them."""
        if file is None and any(self.keywords().values()):
            raise typer.BadParameter(f"columns are those of {option} FILE, which is not given")


@dataclass(frozen=True)
class EngineSettings:
    """Which engine runs a model, and how: one field an option; None chooses the engine's own default."""

    engine: Annotated[str, typer.Option(help="plain, fixed or spu.")] = "spu"
    protocol: Annotated[str | None, typer.Option(help="spu: aby3 (default), cheetah or semi2k.")] = None
    ring: Annotated[int | None, typer.Option(metavar="BITS", help="Width of the ring: 64 (default), 48 or 32.")] = None
    fraction_bits: Annotated[int | None, typer.Option(metavar="F", help="Default: 18, 14, 12 in 64, 48, 32.")] = None
    embeddings: Annotated[
        str, typer.Option(help="client: it looks tokens up in a table it holds; one-hot: the table stays secret.")
    ] = "client"
    batch: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 1
    length: Annotated[
        int | None, typer.Option(min=2, help="Padded length of every text. Default: each text's smallest bucket.")
    ] = None
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts that are too long, and say how many.")] = False
    force: Annotated[bool, typer.Option("--force", help="Run though declared ranges overflow the ring.")] = False
    trust_first_party: Annotated[
        bool, typer.Option("--trust-first-party", help="semi2k: the client may unmask the weights.")
    ] = False
    accept_embedding_leak: AcceptEmbeddingLeak = False

    def check(self) -> None:
        """Raises MPC-501, 502 and 504 for an engine, or settings, that there are not."""
        check_engine(
            self.engine,
            protocol=self.protocol,
            ring=self.ring,
            fraction_bits=self.fraction_bits,
            embeddings=self.embeddings,
            trust_first_party=self.trust_first_party,
        )

    def keywords(self) -> dict[str, Any]:
        """The keywords of `mpcify.compile`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
