"""What each party holds of a model: its graphs by length, what is public, and the role's own secrets; as folders.

OUT/client has the graphs, the tokenizer and (embeddings `client`) the table; OUT/owner the graphs, and the weights once
for all lengths; OUT/helper and OUT/dealer, the third parties of different engines, the graphs. Each has an index,
`exported.json`, with the digest of every file beside it: of the weights in the owner's alone, because the digest of a
secret confirms a guess. Nothing is used before it is checked, no file is opened by a name that stands in a file, and
each is read once: what has the right digest is what is used.
"""

import hashlib
import json
import math
import os
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file
from tokenizers import Tokenizer

from mpcify.errors import MpcifyError, gave_up
from mpcify.files import at_once, is_locked
from mpcify.graph.about import AGAIN, About, ImageFacts, TextFacts, wrong_field
from mpcify.graph.graph import MOST_BYTES, Graph, Holder
from mpcify.graph.index import INDEX, ROLES, Index, Role, graph_file, refuse
from mpcify.graph.inputs import LOOKED_UP, PATCHES, client_shape

WEIGHTS = "weights.safetensors"
EMBEDDINGS = "embeddings.safetensors"
TOKENIZER = "tokenizer.json"
TABLE = "word_embeddings"  # the table's name in its file
MOST = {"index": 1 << 20, "graph": MOST_BYTES, "tokenizer": 1 << 28}  # bytes
HEADER = 512  # bytes at most that stand before the arrays of a file, for each of them, and once more

Weights = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


class Exported(ABC):
    """A model as its parties hold it; what belongs to a role that is not here is None.

    about: what is public of it. batch: requests at once. lengths: the padded lengths that there are graphs of; None if
    any that the model takes. declared: whether ranges are. uncalibrated: whether it has approximations that were
    not calibrated. taught_texts: how many texts of each bucket the student was taught on; None if that is not known,
    and in what `export` wrote, where `about` has the buckets alone. table: the client's, of embeddings (words, E), in
    which it looks its tokens up. tokenizer: the client's, for texts.
    """

    about: About
    batch: int
    lengths: tuple[int, ...] | None
    declared: bool
    uncalibrated: bool
    taught_texts: Mapping[int, int] | None
    table: np.ndarray | None
    tokenizer: Tokenizer | None

    @abstractmethod
    def graph(self, length: int) -> Graph:
        """The graph of a padded length; for images any number names the only one. Raises MPC-405."""

    @property
    @abstractmethod
    def weights(self) -> Weights | None:
        """The owner's, float32, by the names of the graphs' inputs; the same for every length."""

    @property
    def has_weights(self) -> bool:
        """Whether the owner's weights are here."""
        return self.weights is not None

    @property
    @abstractmethod
    def public_table(self) -> bool:
        """Whether the table is recorded as that of a public base checkpoint, bit for bit."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of what decides its answers; to be kept as the weights are."""

    @property
    def leaks_table(self) -> bool:
        """Whether clients look tokens up in a table that is not recorded as public."""
        return self.about.embeddings == "client" and not self.public_table


class Folder(Exported):
    """An exported folder, of one role or of all, that was read and checked: see `read` and `read_all`."""

    def __init__(
        self,
        where: Path,
        index: Index,
        graphs: Mapping[int, Graph],
        weights: Weights | None = None,
        client: tuple[Tokenizer | None, np.ndarray | None] = (None, None),
    ) -> None:
        self.where, self.index, self.graphs, self.owned = where, index, graphs, weights
        self.about = about_of(next(iter(graphs.values())), where)
        self.batch, self.lengths, self.uncalibrated = index.batch, index.lengths, index.uncalibrated
        self.declared = all(graph.ranges for graph in graphs.values())
        self.tokenizer, self.table = client
        self.taught_texts = None

    def serving(self, lengths: Sequence[int]) -> "Folder":
        """The same model with the graphs of these lengths alone. Raises MPC-405 for one that there is not."""
        graphs = {length: self.graph(length) for length in lengths}
        client = (self.tokenizer, self.table)
        return Folder(self.where, replace(self.index, lengths=tuple(lengths)), graphs, self.owned, client)

    def graph(self, length: int) -> Graph:
        if isinstance(self.about.inputs, ImageFacts):
            (graph,) = self.graphs.values()
            return graph
        if length not in self.graphs:
            there = ",".join(map(str, self.graphs))
            what = f"{self.where} holds graphs of {there} tokens"
            remedy = f"choose one of them, or export it too: mpcify export MODEL OUT --length {there},{length}"
            raise MpcifyError(405, f"length {length}", what, remedy)
        return self.graphs[length]

    @property
    def weights(self) -> Weights | None:
        return self.owned

    @property
    def public_table(self) -> bool:
        return self.index.public_table

    @property
    def digest(self) -> str:
        return hashlib.sha256(replace(self.index, export="").text().encode()).hexdigest()


def is_exported(path: str | Path) -> bool:
    """Whether a folder is one that `export` wrote, or a part of one, by its files' names alone."""
    folder = Path(path)
    parts = [folder / role for role in ROLES]
    return any(os.path.isfile(part / INDEX) for part in (folder, *parts)) or all(map(os.path.isdir, parts))


def read(folder: str | Path, role: Role) -> Folder:
    """What one role holds: OUT/client, OUT/owner, OUT/helper or OUT/dealer.

    Checked are the index, the digest of each file, the graphs, and that each array that they read is there, float32,
    finite and of its shape. Raises MPC-404.
    """
    folder = Path(folder)
    if is_locked(folder):
        raise MpcifyError(404, str(folder), "you may not read it", f"read it as the user of the {role}")
    if not os.path.isfile(folder / INDEX):
        what = f"there is no {INDEX}: it is not, or not of this version, what export writes for the {role}"
        raise MpcifyError(404, str(folder), what, AGAIN)
    index = Index.from_text(read_text(folder / INDEX, MOST["index"]), folder / INDEX)
    if index.role != role:
        refuse(folder, f"it is the folder of the {index.role}, not of the {role}")
    graphs = {length: read_graph(folder, index, length) for length in index.lengths}
    about = check_together(folder, graphs)
    names = secret_files(role, about)
    if index.files.keys() != {*map(graph_file, index.lengths), *names}:
        raise wrong_field(str(folder / INDEX), "files")
    graph = graphs[index.lengths[0]]
    weights = read_arrays(folder / WEIGHTS, index, shapes_of(graph, "owner")) if WEIGHTS in names else None
    tokenizer = read_tokenizer(folder / TOKENIZER, index) if TOKENIZER in names else None
    table = read_arrays(folder / EMBEDDINGS, index, table_shape(graph))[TABLE] if EMBEDDINGS in names else None
    return Folder(folder, index, graphs, weights, (tokenizer, table))


def read_all(out: str | Path) -> Folder:
    """What all roles hold together, for a simulation: OUT with the folders that `write` fills.

    Raises MPC-404 for what `read` refuses, and for folders that hold different graphs.
    """
    out = Path(out)
    if os.path.isfile(out / INDEX):
        remedy = f"name the folder that holds {', '.join(ROLES)}"
        raise MpcifyError(404, str(out), "it is the folder of one party, and a simulation needs all", remedy)
    if not (os.path.isdir(out) or is_locked(out)):
        raise MpcifyError(404, str(out), "there is no such folder", "name the folder that mpcify export wrote")
    parts = {role: read(out / role, role) for role in ROLES}
    client, owner = parts["client"], parts["owner"]
    for other in parts.values():
        if other.index.shared != client.index.shared:
            refuse(other.where, "it is not of the same export as the client's folder")
    files = {f"{role}/{name}": value for role, part in parts.items() for name, value in part.index.files.items()}
    index = replace(client.index, files=files)
    return Folder(out, index, client.graphs, owner.weights, (client.tokenizer, client.table))


def write(exported: Exported, lengths: Sequence[int], out: Path) -> dict[str, Graph]:
    """Fills OUT, a folder that is there and empty, from a model of all roles; the graphs by their files' names.

    lengths: padded lengths, any for images. OUT/owner gets mode 0700, its files 0600.
    """
    found = [exported.graph(length) for length in sorted(set(lengths))]
    graphs = {graph_file(graph.length): graph for graph in found}
    texts = {name: json.dumps(graph.to_json(), indent=1) for name, graph in graphs.items()}
    export = secrets.token_hex(16)
    for role in ROLES:
        folder = out / role
        folder.mkdir(mode=0o700 if role == "owner" else 0o777)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_secrets(exported, folder, secret_files(role, exported.about))
        files = {path.name: file_digest(path) for path in folder.iterdir()}
        sizes = tuple(sorted(graph.length for graph in found))
        index = Index(export, role, exported.batch, sizes, exported.uncalibrated, exported.public_table, files)
        (folder / INDEX).write_text(index.text(), encoding="utf-8")
        if role == "owner":
            for path in folder.iterdir():
                path.chmod(0o600)
    return graphs


def write_secrets(exported: Exported, folder: Path, names: Sequence[str]) -> None:
    """Writes what a role alone has."""
    if WEIGHTS in names and exported.weights is not None:
        save_file(dict(exported.weights), folder / WEIGHTS)
    if TOKENIZER in names and exported.tokenizer is not None:
        exported.tokenizer.save(str(folder / TOKENIZER))
    if EMBEDDINGS in names and exported.table is not None:
        save_file({TABLE: exported.table}, folder / EMBEDDINGS)


def secret_files(role: Role, about: About) -> tuple[str, ...]:
    """The files that a role has beside index and graphs."""
    if role != "client" or isinstance(about.inputs, ImageFacts):
        return (WEIGHTS,) if role == "owner" else ()
    return (TOKENIZER, EMBEDDINGS) if about.embeddings == "client" else (TOKENIZER,)


def read_graph(folder: Path, index: Index, length: int) -> Graph:
    """The graph of a length, if it is what the index says of it. Raises MPC-404."""
    path = folder / graph_file(length)
    text = read_text(path, MOST["graph"], index)
    try:
        graph = Graph.parse(text)
    except MpcifyError as error:
        refuse(path, error.what)
    if (graph.length, graph.batch) != (length, index.batch):
        refuse(path, f"it is of {graph.length} tokens and a batch of {graph.batch}, and the index says otherwise")
    about = about_of(graph, path)
    shapes, labels = graph.shapes(), len(about.labels)
    if graph.outputs != ("logits",) or shapes["logits"] != (graph.batch, labels):
        refuse(path, f"its output is not a row of {labels} logits a request")
    for item in graph.inputs:
        known = client_shape(item.name, about, graph.batch, length, item.shape[-1] if item.shape else 0)
        if item.holder == "public" or (item.holder == "client" and item.shape != known):
            refuse(path, "it reads an input that no client makes")
    needed = PATCHES if isinstance(about.inputs, ImageFacts) else LOOKED_UP[about.embeddings]
    if needed not in shapes_of(graph, "client"):
        refuse(path, f"it does not read the client's {needed}")
    return graph


def check_together(folder: Path, graphs: Mapping[int, Graph]) -> About:
    """What the graphs of a folder say of their model. Raises MPC-404 if they are not all of one."""
    first, *others = graphs.values()
    about = about_of(first, folder)
    if others and isinstance(about.inputs, ImageFacts):
        refuse(folder, "it holds several graphs of one image")
    for graph in others:
        same = shapes_of(graph, "owner") == shapes_of(first, "owner") and table_shape(graph) == table_shape(first)
        if graph.about != about or not same:
            refuse(folder / graph_file(graph.length), f"it is of another model than {graph_file(first.length)}")
    return about


def about_of(graph: Graph, where: Path) -> About:
    """What a graph says of its model. Raises MPC-404 if it says nothing."""
    if graph.about is None:
        refuse(where, "the graph does not say what its model is")
    return graph.about


def shapes_of(graph: Graph, holder: Holder) -> Shapes:
    """The shapes of a holder's inputs by their names."""
    return {item.name: item.shape for item in graph.held_by(holder)}


def table_shape(graph: Graph) -> Shapes:
    """The shape of the table that a graph's client looks its tokens up in; nothing if it looks nothing up."""
    facts, width = graph.about and graph.about.inputs, shapes_of(graph, "client").get("embeddings", ())[-1:]
    return {TABLE: (facts.vocabulary, *width)} if isinstance(facts, TextFacts) and width else {}


def read_arrays(path: Path, index: Index, shapes: Shapes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: these and no others, float32, finite, of these shapes. Raises MPC-404."""
    most = 4 * sum(map(math.prod, shapes.values())) + HEADER * (len(shapes) + 1)
    try:
        arrays = load(read_bytes(path, most, index))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        refuse(path, "it is no safetensors file, or cut short")
    for name in sorted(shapes.keys() ^ arrays.keys()):
        refuse(path, f"the array {name} is missing" if name in shapes else "it holds an array that no graph reads")
    for name, array in arrays.items():
        if array.shape != shapes[name] or array.dtype != np.float32:
            wanted = f"float32 of shape {shapes[name]}"
            refuse(path, f"the array {name} is {array.dtype} of shape {array.shape}, not {wanted}")
        if not np.isfinite(array).all():
            refuse(path, f"the array {name} holds values that are not finite")
    return arrays


def read_tokenizer(path: Path, index: Index) -> Tokenizer:
    """The tokenizer in a file. Raises MPC-404."""
    text = read_text(path, MOST["tokenizer"], index)
    try:
        return Tokenizer.from_str(text)
    except BaseException as error:
        if not gave_up(error):
            raise
        refuse(path, "the tokenizer cannot be read")


def read_text(path: Path, most: int, index: Index | None = None) -> str:
    """A file's text, see `read_bytes`. Raises MPC-404."""
    try:
        return read_bytes(path, most, index).decode()
    except UnicodeDecodeError:
        refuse(path, "it cannot be read")


def read_bytes(path: Path, most: int, index: Index | None = None) -> bytes:
    """A file's content, of at most so many bytes, if it has the digest that an index gives it. Raises MPC-404."""
    try:
        with open(path, "rb", opener=at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                refuse(path, "there is no such file")
            if status.st_size > most:
                refuse(path, f"it is larger than {-(-most >> 20)} MiB")
            content = file.read(status.st_size)
    except FileNotFoundError:
        refuse(path, "there is no such file")
    except PermissionError:
        refuse(path, "it cannot be read", "run as the user that the folder belongs to")
    except OSError:
        refuse(path, "it cannot be read")
    if index is not None and index.files.get(path.name) != hashlib.sha256(content).hexdigest():
        refuse(path, f"it is not the file that {INDEX} tells of")
    return content


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
