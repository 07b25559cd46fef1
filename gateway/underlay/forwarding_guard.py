"""Keeps Linux from routing anything past the datapath, by nftables."""

import subprocess
from collections.abc import Collection

_TABLE = "inet tenant_gateway"


class ForwardingGuardError(Exception):
    """The guard could not be set or removed."""


def install(interfaces: Collection[str]) -> None:
    """Drop all that Linux would forward from or to these interfaces; replaces what an earlier call installed.

    An 802.1Q device on one of them is an interface of its own and is to be named as well; `*` at the end of a name
    stands for any. Also where nothing is forwarded: who turns that on for all interfaces turns it on for ours.
    Raises ForwardingGuardError.
    """
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


def remove() -> None:
    """Remove the guard, if there is one. Raises ForwardingGuardError."""
    _nft("")


def _nft(table: str) -> None:
    """Replace the table in one transaction; the first line makes the deletion of a missing one legal."""
    commands = f"table {_TABLE}\ndelete table {_TABLE}\n{table}"
    try:
        result = subprocess.run(["nft", "-f", "-"], input=commands, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _error("there is no command nft") from None
    if result.returncode:
        raise _error(result.stderr.strip())


def _error(why: str) -> ForwardingGuardError:
    return ForwardingGuardError(
        f"nftables table {_TABLE} is not set, and packets could be forwarded past the datapath: {why}; "
        "it needs CAP_NET_ADMIN, nf_tables in the kernel and the package nftables"
    )
