"""Planning LayerNorm: what it reads is centred, opened and squared; the root of the sum is looked up."""

import math

from mpcify.engines.ring.derived import centred, centring
from mpcify.engines.ring.digits import LARGEST, Digits
from mpcify.engines.ring.forms import Forms, Known, Normal, Product, Shared, Term, Total, Value
from mpcify.engines.ring.protocols import local, lookup, masking, opening, products
from mpcify.engines.ring.protocols.lookup import Table
from mpcify.engines.ring.tables import LEAST, MOST, entries_of, function_tables, root_tables
from mpcify.engines.ring.widths import REMEDY, bits_of
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Operation

ROOT_EXTRA = 20  # fraction bits of a root before it is opened
FUNCTION = 28  # of a function of the head
COARSEST_ROOT = 2**6  # of an inverse root in units of its table's, if eps makes it small


class Norms(Forms):
    """LayerNorm, and the functions of the head."""

    def multiply(self, product: Product, scale: float, operation: Operation) -> int:
        """A linear layer, with its weight at a scale."""
        slot = self.slot(product.weight, scale)
        shape = (*product.x.shape[:-1], product.weight.shape[-1])
        index = self.step(products.Linear, product.x, shape=shape, slot=slot)
        bias = self.know(product.bias, round(product.x.scale * scale))
        return self.plus(index, bias, (1, 1), shape)

    def centred(self, total: Total, term: Term) -> int:
        """A term less its mean along the last axis, at the scale of its sum."""
        scale = self.sum_scale(total)
        shape, width = total.operation.shape, total.operation.shape[-1]
        if isinstance(term, Product):
            product = Product(term.x, centred(term.weight), centred(term.bias))
            return self.multiply(product, scale / term.x.scale, total.operation)
        if isinstance(term, Known):
            return self.know(centred(term.derived), scale)
        if isinstance(term, Normal) and term.operation.shape[-1] == width:
            x = self.masked(term.x)
            slot = self.slot(centring(term.g), scale / x.scale, vector=True)
            index = self.step(products.CentredDiagonal, x, shape=shape, slot=slot)
            return self.plus(index, self.know(centred(term.b), scale), (1, 1), shape)
        part = self.parts(term)
        if part.scale * width > scale:
            part = self.lifted(part)
        factor = scale // part.scale  # along an axis that is broadcast a term is its own mean
        return self.step(local.Centre, part, shape=part.shape, factor=factor, share=round(factor / part.shape[-1]))

    def normal(self, operation: Operation, x: Value, eps: float) -> Shared:
        """(x − μ)/√(σ² + eps) along the last axis.

        n·(x − μ) is opened and squared; the root of the sum is looked up, opened too, and multiplied with it.
        """
        width, shape = operation.shape[-1], operation.shape
        variances = self.widths.variance(operation)
        largest = variances[1]
        if isinstance(x, Total):
            bound, scale = self.widths.bound(x.operation.name), self.sum_scale(x)
            index, *others = [self.centred(x, term) for term in x.terms]
            for other in others:
                index = self.plus(index, other, (1, 1), shape)
        else:
            part = self.parts_unopened(x)
            bound, scale = self.bound(part), part.scale * width
            index = self.step(local.Centre, part, shape=shape, factor=width, share=1)
        Digits(self.graph, self.widths, self.precision).refuse_lost(operation)
        centre = Shared(index, shape, scale, operation)
        spread = min(2 * bound, math.sqrt(width * largest))
        middle = math.sqrt(max(8 * variances[0], largest * 1e-6) * largest / 8) ** 0.5
        shift = max(round(math.log2(scale * middle)) - self.precision.normal // 2 - 1, 0)
        d = self.open(centre, spread, shift, "deviation")
        remains = scale / 2**shift
        squares = self.step(opening.Square, d, shape=d.shape, opened=d.forms["step"], ahead=False)
        rows = (*shape[:-1], 1)
        total = self.step(local.Sum, squares, shape=rows, axis=-1)
        root = self.root(total, rows, operation, remains, eps, variances)
        normal = 2**self.precision.normal
        product = self.step(
            opening.Product,
            d,
            root,
            shape=shape,
            opened=d.forms["step"],
            other=root.forms["step"],
            ahead=False,
        )
        return Shared(product, shape, normal, operation)

    def root(
        self,
        total: int,
        rows: tuple[int, ...],
        operation: Operation,
        unit: float,
        eps: float,
        variances: tuple[float, float],
    ) -> Shared:
        """1/√(variance + eps) of sums of squares, opened, so that with a deviation it gives 2^normal · (x − μ)/σ."""
        width = operation.shape[-1]
        most = width * variances[1] * unit**2 * (1 + LARGEST) ** 2
        bits = bits_of(most / (1 - 1 / LEAST))
        scale = 2.0 ** (self.precision.normal + ROOT_EXTRA) / unit
        tables = root_tables(bits, variances, 1 / (width * unit**2), eps, scale)
        root = self.tabled(total, rows, tables, 2**ROOT_EXTRA)
        one = 2.0**self.precision.normal / unit
        if eps > variances[1] and one < COARSEST_ROOT * math.sqrt(variances[1] + eps) and not self.widths.force:
            what = f"its eps of {eps:.3g} leaves too few digits of variances up to {variances[1]:.3g}"
            raise MpcifyError(402, operation.where, what, REMEDY)
        largest = one / math.sqrt(max(variances[0], variances[1] * 1e-12) + eps)
        return self.open(root, largest, ROOT_EXTRA, "root")

    def tabled(self, x: int, shape: tuple[int, ...], tables: tuple[Table, ...], scale: int, signed: int = 0) -> Shared:
        """What tables of a function say together: the second one's value, if the first one's second function is 1.

        signed: 1 if the argument may be negative: half of each table is for that.
        """
        upper, *lower = tables
        index = self.looked_up(x, shape, upper, signed << (upper.bits - 1))
        found = self.picked(index, 0, shape, scale)
        for other in lower:
            second = self.looked_up(x, shape, other, signed << (other.bits - 1))
            factors = self.picked(index, 1, shape, 1), self.picked(second, 0, shape, scale)
            whole = (
                self.step(masking.MaskBoth, factor, shape=shape, messages=1, shift=0, ahead=False) for factor in factors
            )
            product = self.step(products.Multiplied, *whole, shape=shape)
            found = Shared(self.plus(found.index, product, (1, 1), shape), shape, scale, self.operation)
        return found

    def looked_up(self, x: int, shape: tuple[int, ...], found: Table, offset: int = 0) -> int:
        """The functions of a table, of a value in parts, with the client's half ahead if it depends on no input."""
        self.widths.table(self.operation, found.bits)
        return self.step(
            lookup.Lookup,
            x,
            shape=(found.coefficients.shape[1], *shape),
            messages=1,
            table=found,
            offset=offset,
            early=self.steps[x].ahead,
            ahead=False,
            dealt=False,
        )

    def picked(self, index: int, place: int, shape: tuple[int, ...], scale: int) -> Shared:
        """One of the functions that were looked up."""
        found = self.step(local.Moved, index, shape=shape, move=lambda values: values[place])
        return Shared(found, shape, scale, self.operation)

    def function(self, operation: Operation, x: Value) -> Shared:
        """A function of the head, by tables over its declared range."""
        part = self.parts_unopened(x)
        bits = max(bits_of(2 * self.bound(part) * 1.03 * part.scale), bits_of(MOST))
        unit = 1 / part.scale
        entries = entries_of(operation.kind, bits, unit)
        self.widths.refuse_coarse(operation, self.bound(part), 2.0**bits * unit / entries)
        tables = function_tables(operation.kind, bits, entries, unit, 2.0**FUNCTION)
        return self.tabled(part.index, part.shape, tables, 2**FUNCTION, signed=1)
