"""Where this namespace forwards, keeps Linux from routing anything past the datapath, by nftables."""

import subprocess
from collections.abc import Collection
from pathlib import Path

_SWITCHES = (Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv6/conf/all/forwarding"))
_TABLE = "inet tenant_gateway"


class ForwardingGuardError(Exception):
    """The guard could not be set or removed."""


def forwards() -> bool:
    """Tell whether Linux forwards IPv4 or IPv6 in the calling thread's network namespace."""
    return any(switch.exists() and switch.read_text().strip() != "0" for switch in _SWITCHES)


def install(interfaces: Collection[str]) -> bool:
    """Drop all that Linux would forward from or to these interfaces; replaces what an earlier call installed.

    An 802.1Q device on one of them is an interface of its own and is to be named as well. Returns False, and does
    nothing, where nothing is forwarded. Raises ForwardingGuardError.
    """
    if not forwards():
        return False
    names = ", ".join(f'"{interface}"' for interface in sorted(interfaces))
    _nft(
        f"""
        table {_TABLE} {{
            chain forward {{
                type filter hook forward priority filter; policy accept;
                iifname {{ {names} }} drop
                oifname {{ {names} }} drop
            }}
        }}
        """
    )
    return True


def remove() -> None:
    """Remove the guard, if there is one. Raises ForwardingGuardError."""
    _nft("")


def _nft(table: str) -> None:
    """Replace the table in one transaction; the first line makes the deletion of a missing one legal."""
    result = subprocess.run(
        ["nft", "-f", "-"],
        input=f"table {_TABLE}\ndelete table {_TABLE}\n{table}",
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ForwardingGuardError(
            f"nft refused table {_TABLE}: {result.stderr.strip()}; "
            "the guard needs CAP_NET_ADMIN and the package nftables, or turn forwarding off: "
            "sysctl -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"
        )
