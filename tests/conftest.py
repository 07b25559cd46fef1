"""What a run of the tests includes only when it is asked to."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vm", action="store_true", help="also boot Debian's stock kernels under QEMU")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vm: boots a machine under QEMU; runs with --vm")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--vm"):
        return
    machines = [item for item in items if item.get_closest_marker("vm")]
    items[:] = [item for item in items if item not in machines]
    config.hook.pytest_deselected(items=machines)
