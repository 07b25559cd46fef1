"""The provider network as a VLAN of the gateway's card, where the kernel has 802.1Q devices: Debian 13's own."""

from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.guest import FINISHED
from tests.vm.kernels import stock_kernel
from tests.vm.test_kernel_esp import FILES, LAB_FILES, LAB_MODULES, LAB_TOOLS, TOOLS, nftables_library

pytestmark = [pytest.mark.vm, pytest.mark.timeout(machine.TEST_SECONDS)]
MODULES = ("veth", *LAB_MODULES, "8021q", "nf_tables", "tun")


def test_hosts_are_reached_through_a_provider_vlan(tmp_path: Path) -> None:
    kernel = stock_kernel("trixie", MODULES)
    tests = ["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "-rs", "tests/lab/test_vlans.py"]
    tests += ["-k", "provider-vlan and not tcp"]  # whose rate says nothing in an emulated machine
    files = [*FILES, nftables_library(), *LAB_FILES]
    console = machine.run(kernel, [tests], tmp_path, (*TOOLS, *LAB_TOOLS), files)
    assert "5 passed" in console, console
    assert f"{FINISHED} 0\n" in console, console
