"""The same endpoints, with the same policy and the same lab, where the kernel does ESP: on Debian 13's own kernel."""

import shutil
from pathlib import Path

import pytest

from tests.vm import machine
from tests.vm.guest import FINISHED
from tests.vm.kernels import NoKernelError, stock_kernel

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
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
TESTS = ("tests/lab/vpn/test_tunnels.py", "tests/lab/vpn/test_mtu.py", "tests/lab/vpn/test_fail_closed.py")


def test_endpoints_work_with_the_kernels_esp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which(machine.QEMU):
        pytest.skip(f"there is no {machine.QEMU}: apt-get install qemu-system-x86")
    try:
        kernel = stock_kernel("trixie", MODULES)
    except NoKernelError as error:
        pytest.skip(str(error))
    backend = ["-c", "from vpn.kernel import probe; print(probe())"]
    tunnels = ["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", *TESTS]
    libraries = [next(Path("/usr/lib").glob("*-linux-gnu/libnftables.so.1"))]
    console = machine.run(kernel, [backend, tunnels], tmp_path, TOOLS, [*FILES, *libraries])
    with capsys.disabled():
        print(*[line for line in console.splitlines() if line.startswith(("Linux ", "Backend"))], sep="\n  ")
    assert "in_user_space=False" in console, console
    assert console.count(f"{FINISHED} 0\n") == 2, console
