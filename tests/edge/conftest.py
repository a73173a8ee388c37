from __future__ import annotations

import pytest

from edge.model import Model
from tests.edge.toy_model import toy_model


@pytest.fixture
def model() -> Model:
    """A model on the toy engine with 402 tokens, of which 0, 1 and 2 are special and 2 ends an answer."""
    return toy_model()
