"""mpcify export MODEL OUT: one folder a party."""

from typing import Annotated

import typer

from mpcify.cli.early import check_embeddings, check_lengths, check_model
from mpcify.cli.options import AcceptEmbeddingLeak, Batch, Model, Out
from mpcify.cli.verb import Answer, verb
from mpcify.files import refuse_taken

Lengths = Annotated[str, typer.Option("--length", metavar="N,N…", help="Padded lengths; images have none.")]
Embeddings = Annotated[str, typer.Option(help="client: the client folder holds the table; one-hot: it stays secret.")]


@verb
def export(
    model: Model,
    out: Out,
    length: Lengths = "",
    batch: Batch = 1,
    embeddings: Embeddings = "client",
    accept_embedding_leak: AcceptEmbeddingLeak = False,
) -> Answer:
    """Write what each party of any engine needs: OUT/client, OUT/owner, OUT/helper and OUT/dealer."""
    check_lengths(lengths := integers_in(length))
    check_embeddings(embeddings)
    refuse_taken(out)
    check_model(model)
    from mpcify.conversion.convert import as_student, load_model
    from mpcify.conversion.student import recipe_name
    from mpcify.graph.index import ROLES
    from mpcify.lowering.export import export_folder

    student = as_student(load_model(model))
    written = export_folder(
        student,
        model,
        out,
        lengths,
        batch=batch,
        embeddings=embeddings,
        accept_embedding_leak=accept_embedding_leak,
    )
    written.pop("folder")
    values = {"model": model, "out": str(out), "recipe": recipe_name(student), **written}
    return Answer(values, f"{out}: {', '.join(ROLES)}, each with {', '.join(written['graphs'])}")


def integers_in(lengths: str, hint: str = "--length") -> list[int]:
    """The integers in `64,128`."""
    try:
        return [int(part) for part in lengths.split(",")] if lengths else []
    except ValueError:
        raise typer.BadParameter(f"{lengths!r} is no list of numbers", param_hint=hint) from None
