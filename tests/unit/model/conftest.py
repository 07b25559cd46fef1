import pytest

from tests.unit.model.services import ModelGateway


@pytest.fixture
def gateway() -> ModelGateway:
    """The model, for cases that the programs are held to as well."""
    return ModelGateway()
