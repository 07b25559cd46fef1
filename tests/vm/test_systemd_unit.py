"""The systemd unit, run by systemd: this machine's, on Debian 13's kernel."""

from pathlib import Path

import pytest

from tests.vm import machine, service_manager
from tests.vm.guest import FINISHED
from tests.vm.kernels import stock_kernel
from tests.vm.test_kernel_esp import FILES, MODULES, TOOLS, nftables_library

pytestmark = [pytest.mark.vm, pytest.mark.timeout(machine.TEST_SECONDS)]


@pytest.mark.skipif(not service_manager.PROGRAM.exists(), reason="there is no systemd here: apt-get install systemd")
def test_the_unit_starts_the_gateway_keeps_its_datapath_over_a_restart_and_stops_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = stock_kernel("trixie", (*MODULES, "vxlan"))
    tools = (*TOOLS, "bridge", "ethtool")
    files = [*FILES, nftables_library()]
    console = machine.run(kernel, [["-m", "tests.vm.systemd_unit"]], tmp_path, tools, files, under_systemd=True)
    with capsys.disabled():
        print("", *[line for line in console.splitlines() if " s  " in line], sep="\n  ")
    assert f"{FINISHED} 0\n" in console, console
