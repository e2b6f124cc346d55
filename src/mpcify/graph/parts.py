"""Parts of a graph as graphs: embedding, encoder layers and head, each of which can be measured as a program."""

from collections.abc import Callable

from mpcify.graph.graph import Graph, Input, Operation


def subgraph(graph: Graph, inside: Callable[[Operation], bool]) -> Graph:
    """The operations that `inside` chooses, as a graph of their own.

    What they read from the others becomes an input of the client (in a program of parties: a shared value); what the
    others read of them, and the graph's own outputs among them, becomes its outputs.
    """
    kept = tuple(operation for operation in graph.operations if inside(operation))
    names = {operation.name for operation in kept}
    shapes, given = graph.shapes(), {item.name: item for item in graph.inputs}
    read = dict.fromkeys(name for operation in kept for name in operation.inputs if name not in names)
    public = public_values(graph)
    inputs = tuple(
        given.get(name) or Input(name, "public" if name in public else "client", shapes[name]) for name in read
    )
    used = {name for operation in graph.operations if operation.name not in names for name in operation.inputs}
    outputs = tuple(operation.name for operation in kept if operation.name in used or operation.name in graph.outputs)
    ranges = {name: entry for name, entry in graph.ranges.items() if name in names}
    return Graph(inputs, kept, outputs, graph.batch, graph.length, graph.about, ranges).check()


def encoder_layers(graph: Graph) -> Graph:
    """The encoder layers alone: hidden states and masks in, hidden states out."""
    return subgraph(graph, lambda operation: operation.layer is not None)


def single(graph: Graph, operation: Operation) -> Graph:
    """One operation as a graph of its own."""
    return subgraph(graph, lambda other: other is operation)


def public_values(graph: Graph) -> frozenset[str]:
    """The operations that read public inputs alone: their outputs are public too."""
    known = {item.name for item in graph.held_by("public")}
    for operation in graph.operations:
        if known.issuperset(operation.inputs):
            known.add(operation.name)
    return frozenset(known)
