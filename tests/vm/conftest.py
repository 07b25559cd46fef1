"""What cannot be had on this machine skips a test, by its reason."""

from collections.abc import Generator

import pytest

from tests.vm.kernels import NoKernelError
from tests.vm.machine import EmulationError


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        return (yield)
    except (NoKernelError, EmulationError) as error:
        pytest.skip(str(error))
