"""What every kind of requests holds to."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytest

from mpcify.data.files import COLUMNS
from mpcify.engines.interpret import check_arrays
from mpcify.errors import MpcifyError
from mpcify.graph.graph import Graph
from mpcify.requests.requests import Requests


class RequestsContract(ABC):
    """Subclass it as Test…, and give the three."""

    @abstractmethod
    def requests(self) -> Requests:
        """Requests of a small model."""

    @abstractmethod
    def items(self) -> list[Any]:
        """Four items of as many lengths as can be, the longest first."""

    @abstractmethod
    def graph(self, batch: int, length: int) -> Graph:
        """A graph of its client's inputs."""

    def test_every_item_stands_in_one_group_of_its_length_shortest_first(self) -> None:
        one, items = self.requests(), self.items()
        groups, encoded = one.groups(items), one.encode(items)
        assert sorted(place for group in groups for place in group.places) == list(range(len(items)))
        lengths = [group.length for group in groups]
        assert lengths == sorted(set(lengths))
        assert set(lengths) <= set(one.lengths)
        for group in groups:
            assert list(group.places) == sorted(group.places)
            for place, item in zip(group.places, group.encoded, strict=True):
                assert one.padded_length(item, None) == group.length
                np.testing.assert_equal(item, encoded[place])
                assert not one.is_cut(item)

    def test_with_one_length_there_is_one_group(self) -> None:
        one = self.requests()
        (group,) = one.groups(self.items(), length=one.lengths[-1])
        assert (group.length, group.places) == (one.lengths[-1], (0, 1, 2, 3))

    def test_a_length_is_the_smallest_that_holds_an_item(self) -> None:
        one = self.requests()
        assert list(one.lengths) == sorted(set(one.lengths))
        for count in range(one.longest + 1):
            found = one.bucket_for(count)
            assert found in one.lengths
            assert not any(count <= smaller < found for smaller in one.lengths)
        with pytest.raises(MpcifyError, match="MPC-106"):
            one.bucket_for(one.longest + 1)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_inputs_are_what_the_graph_asks_for(self, batch: int) -> None:
        one = self.requests()
        for group in one.groups(self.items()):
            graph = self.graph(batch, group.length)
            given = one.inputs(group.encoded[:batch], graph)
            assert given.keys() == {item.name for item in graph.held_by("client")}
            for array in check_arrays(graph.held_by("client"), given).values():
                assert array.dtype == np.float32
                assert np.isfinite(array).all()

    def test_a_batch_that_is_not_full_asks_its_first_item_again(self) -> None:
        one, length = self.requests(), self.requests().lengths[-1]
        encoded = one.encode(self.items())
        few, many = one.inputs(encoded[:2], self.graph(4, length)), one.inputs(encoded, self.graph(4, length))
        for name, array in few.items():
            assert np.array_equal(array[:2], many[name][:2])
            assert np.array_equal(array[2:], np.stack([array[0]] * 2))

    def test_none_or_more_than_the_batch_is_a_mistake_of_the_caller(self) -> None:
        one, length = self.requests(), self.requests().lengths[-1]
        for encoded in ([], one.encode(self.items())):
            with pytest.raises(ValueError, match="items for a batch of 3"):
                one.inputs(encoded, self.graph(3, length))

    def test_made_up_items_fill_a_graph_and_are_the_same_each_time(self) -> None:
        one = self.requests()
        graph = self.graph(3, one.lengths[-1])
        first, again = (one.inputs(one.sample(graph), graph) for _ in range(2))
        assert len(one.sample(graph)) == 3
        for name, array in check_arrays(graph.held_by("client"), first).items():
            assert np.array_equal(array, again[name])

    @pytest.mark.parametrize("wrong", ["a private text", b"a private text", {"a": 1}, 3, None])
    def test_what_is_no_list_is_refused_and_not_quoted(self, wrong: Any) -> None:
        with pytest.raises(MpcifyError, match="MPC-102 request: it is one") as raised:
            self.requests().groups(wrong)
        assert "private" not in str(raised.value)

    @pytest.mark.parametrize("wrong", ["array", "number", "table"])
    def test_an_array_that_is_no_list_of_items_is_refused(self, wrong: str) -> None:
        class Table:
            """As pandas makes them: a list of its columns' names."""

            shape, __len__, __getitem__ = (2, 2), lambda self: 2, lambda self, place: "a"

        given = {"array": np.array("a private text"), "number": np.float64(3), "table": Table()}[wrong]
        with pytest.raises(MpcifyError, match="MPC-102 request: it is one"):
            self.requests().groups(given)

    def test_an_array_of_its_items_is_a_list_of_them(self) -> None:
        array = np.empty(4, object)
        array[:] = self.items()
        places = [group.places for group in self.requests().groups(array)]
        assert places == [group.places for group in self.requests().groups(self.items())]

    def test_an_empty_list_is_refused(self) -> None:
        with pytest.raises(MpcifyError, match="MPC-108"):
            self.requests().groups([])

    def test_its_columns_are_those_of_data_files(self) -> None:
        assert set(self.requests().columns) <= {name for names in COLUMNS.values() for name in names}
