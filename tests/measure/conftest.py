"""A small classifier that the tests evaluate."""

from pathlib import Path

import pytest
from transformers import BertForSequenceClassification

from tests.measure.reports import saved


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BertForSequenceClassification]:
    folder = tmp_path_factory.mktemp("classifier")
    return folder, saved(folder, 3)
