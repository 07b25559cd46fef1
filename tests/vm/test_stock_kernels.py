"""The datapath runs on the kernels that Debian 12 and 13 come with, whatever kernel this machine has."""

from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.guest import FINISHED
from tests.vm.kernels import stock_kernel

pytestmark = [pytest.mark.vm, pytest.mark.timeout(machine.TEST_SECONDS)]


@pytest.mark.parametrize(("suite", "release"), [("bookworm", "6.1."), ("trixie", "6.12.")])
def test_the_datapath_loads_on_the_stock_kernel_and_keeps_tenants_apart(
    suite: str, release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["-m", "tests.vm.instructions"]
    packets = ["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "tests/datapath/test_cases_isolation.py"]
    console = machine.run(stock_kernel(suite), [load, packets], tmp_path)
    told = [line for line in console.splitlines() if line.startswith(("Linux ", "program "))]
    with capsys.disabled():
        print(f"\n{suite}:", *told, sep="\n  ")
    assert f"Linux {release}" in console, console
    assert console.count(f"{FINISHED} 0\n") == 2, console
