"""The same endpoints, with the same policy and the same lab, where the kernel does ESP: on Debian 13's own kernel."""

from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.guest import FINISHED
from tests.vm.kernels import stock_kernel

pytestmark = [pytest.mark.vm, pytest.mark.timeout(machine.TEST_SECONDS)]
MODULES = (
    "veth",
    "xfrm_user",
    "esp4",
    "esp6",
    "xfrm_interface",
    "gcm",
    "ghash_generic",
    "seqiv",
    "echainiv",
    "authenc",
)
MODULES += ("nf_tables", "nft_limit", "nft_chain_nat", "nft_nat", "sch_htb", "sch_ingress", "tun")
TOOLS = ("charon-systemd", "swanctl", "nsenter", "unshare", "nft", "ping", "sysctl", "tcpdump", "iperf3")
FILES = tuple(
    map(Path, ("/usr/lib/ipsec", "/etc/strongswan.conf", "/etc/strongswan.d", "/etc/passwd", "/etc/protocols"))
)
TESTS = (
    "tests/lab/vpn/test_tunnels.py",
    "tests/lab/vpn/test_mtu.py",
    "tests/lab/vpn/test_fail_closed.py",
    "tests/lab/vpn/test_failover.py::test_a_site_that_is_cut_off_is_replaced_by_the_other_and_takes_over_again",
    "tests/lab/vpn/test_failover.py::test_two_tunnels_to_one_prefix_carry_each_what_comes_from_its_own_sources",
)
LAB_MODULES = ("vxlan", "bridge")
LAB_TOOLS = ("bridge", "clang", "curl", "dnsmasq", "env", "ethtool", "/usr/bin/python3", "sh")
LAB_TOOLS += ("ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovsdb-server", "ovsdb-tool", "ovs-vswitchd")
HEADERS = ("linux", "bpf", "asm-generic", "x86_64-linux-gnu/asm")  # for the lab's own program
LAB_FILES = (Path("/usr/share/openvswitch/vswitch.ovsschema"), Path("/etc/group"))
LAB_FILES += tuple(Path("/usr/include") / name for name in HEADERS)


def test_endpoints_work_with_the_kernels_esp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = stock_kernel("trixie", MODULES)
    backend = ["-c", "from vpn.kernel import probe; print(probe())"]
    tunnels = ["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", *TESTS]
    console = machine.run(kernel, [backend, tunnels], tmp_path, TOOLS, [*FILES, nftables_library()])
    with capsys.disabled():
        print(*[line for line in console.splitlines() if line.startswith(("Linux ", "Backend"))], sep="\n  ")
    assert "in_user_space=False" in console, console
    assert console.count(f"{FINISHED} 0\n") == 2, console


def test_the_hybrid_cloud_lab_works_with_the_kernels_esp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = stock_kernel("trixie", (*MODULES, *LAB_MODULES))
    files = [*FILES, nftables_library(), *LAB_FILES]
    console = machine.run(kernel, [["-m", "tests.vm.hybrid_cloud"]], tmp_path, (*TOOLS, *LAB_TOOLS), files)
    with capsys.disabled():
        print("", *console.splitlines(), sep="\n  ")
    assert f"{FINISHED} 0\n" in console, console


def nftables_library() -> Path:
    return next(Path("/usr/lib").glob("*-linux-gnu/libnftables.so.1"))
