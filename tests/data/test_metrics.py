"""Metrics against scikit-learn and SciPy, and against answers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mpcify.data.metrics import agreement, correct, max_error, mcnemar_p, metrics, pearson, ranks

values = arrays(np.float64, st.integers(2, 12), elements=st.integers(-3, 3).map(float))


def test_accuracy_is_the_share_of_right_arg_maxes() -> None:
    logits = np.array([[0.1, 0.9, 0.0], [2.0, 1.0, 0.0], [0.0, 0.1, 0.2], [3.0, 4.0, 5.0]])
    assert metrics(logits, [1, 0, 2, 0]).to_json() == {"accuracy": 0.75}
    assert correct(logits, [1, 0, 2, 0]).tolist() == [True, True, True, False]


def test_regression_has_correlations_and_no_accuracy() -> None:
    logits = np.array([[1.0], [4.0], [9.0], [16.0]])
    found = metrics(logits, [1.0, 2.0, 3.0, 4.0], regression=True)
    assert found.to_json() == {"accuracy": None, "pearson": pytest.approx(0.984374, abs=1e-6), "spearman": 1.0}


@settings(deadline=None, max_examples=40)
@given(st.data(), values)
def test_correlations_are_scipys(data: st.DataObject, a: np.ndarray) -> None:
    b = data.draw(arrays(np.float64, len(a), elements=st.integers(-3, 3).map(float)))
    assert np.array_equal(ranks(a), stats.rankdata(a))
    found = metrics(a[:, None], b, regression=True)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert (found.pearson, found.spearman) == (None, None)
    else:
        # a dozen small whole numbers: both sides round in the last places of a float only
        assert found.pearson == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
        assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_one_example_has_no_correlation() -> None:
    assert pearson(np.array([1.0]), np.array([2.0])) is None


def test_agreement_compares_answers_and_not_scores() -> None:
    a, b = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 5.0]]), np.array([[9.0, 9.1], [0.0, 1.0], [0.0, 0.1]])
    assert agreement(a, b) == pytest.approx(2 / 3)


def test_regression_agrees_within_a_fiftieth() -> None:
    a, b = np.zeros((3, 1)), np.array([[0.019], [-0.019], [0.021]])
    assert agreement(a, b, regression=True) == pytest.approx(2 / 3)


def test_max_error_is_the_largest_difference() -> None:
    assert max_error(np.array([[1.0, 2.0]]), np.array([[1.5, -1.0]])) == 3.0


@pytest.mark.parametrize("only_a, only_b", [(0, 0), (5, 0), (3, 9), (700, 640)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True, False] * 4)
    b = np.array([False] * only_a + [True] * only_b + [True, False] * 4)
    total = only_a + only_b
    expected = stats.binomtest(only_a, total, 0.5).pvalue if total else 1.0
    assert mcnemar_p(a, b) == pytest.approx(expected, rel=1e-9)


def test_correlations_of_constants_do_not_exist_and_none_is_beyond_one() -> None:
    for labels, logits in (
        ([0.1] * 3, [[0.7], [0.2], [0.4]]),
        ([0.1, 0.2, 0.4], [[0.7]] * 3),
        ([0.1] * 3, [[0.7]] * 3),
    ):
        found = metrics(np.array(logits), labels, True)
        assert (found.pearson, found.spearman) == (None, None)
    values = np.random.default_rng(0).standard_normal(1000)
    assert abs(pearson(values, 3 * values) or 2) <= 1 >= abs(pearson(values, -values) or 2)
