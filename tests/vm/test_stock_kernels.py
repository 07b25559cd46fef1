"""The datapath runs on the kernels that Debian 12 and 13 come with, whatever kernel this machine has."""

import shutil
from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.guest import FINISHED
from tests.vm.kernels import NoKernelError, stock_kernel

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("suite", "release"), [("bookworm", "6.1."), ("trixie", "6.12.")])
def test_the_datapath_loads_on_the_stock_kernel_and_keeps_tenants_apart(
    suite: str, release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not shutil.which(machine.QEMU):
        pytest.skip(f"there is no {machine.QEMU}: apt-get install qemu-system-x86")
    try:
        kernel = stock_kernel(suite)
    except NoKernelError as error:
        pytest.skip(str(error))
    load = ["-m", "tests.vm.instructions"]
    packets = ["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "tests/datapath/test_cases_isolation.py"]
    console = machine.run(kernel, [load, packets], tmp_path)
    told = [line for line in console.splitlines() if line.startswith(("Linux ", "program "))]
    with capsys.disabled():
        print(f"\n{suite}:", *told, sep="\n  ")
    assert f"Linux {release}" in console, console
    assert console.count(f"{FINISHED} 0\n") == 2, console
