"""Settings of the kernel in the calling thread's network namespace: /proc/sys/net, and offloads of interfaces."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

_IN_COMPARTMENT = {
    "ipv4": {"forwarding": 1, "rp_filter": 0, "send_redirects": 0, "accept_redirects": 0, "accept_source_route": 0},
    "ipv6": {
        "disable_ipv6": 0,
        "forwarding": 1,
        "accept_redirects": 0,
        "accept_ra": 0,
        "autoconf": 0,
        "accept_dad": 0,
        "addr_gen_mode": 1,  # none: no link-local address
    },
}
_ON_GATEWAYS_SIDE = {
    "ipv4": {"forwarding": 0, "arp_ignore": 8},  # 8: answer for no address
    "ipv6": {"disable_ipv6": 1},
}

_FRAGMENTS = {  # fragments wait for the others of their packet in so much memory for so many seconds, in each family
    "ipv4/ipfrag_high_thresh": 4 << 20,
    "ipv4/ipfrag_time": 1,
    "netfilter/nf_conntrack_frag6_high_thresh": 4 << 20,
    "netfilter/nf_conntrack_frag6_timeout": 1,
}

_SIOCETHTOOL = 0x8946  # linux/sockios.h; the rest linux/ethtool.h
_OFFLOADS = {  # how to ask, how to set: what it is to be
    (0x14, 0x15): 0,  # receive checksums
    (0x16, 0x17): 0,  # transmit checksums, and segmentation with them: partial ones do not survive XDP at the other end
    (0x25, 0x26): 0,  # flags, among them VLAN tags beside the frame, which XDP does not see
    (0x2B, 0x2C): 1,  # GRO: it gives veth the NAPI that takes frames which XDP redirects
}


def set_defaults() -> None:
    """Set what interfaces to come will have. Raises OSError."""
    for interface in ("all", "default"):
        _set(interface, _IN_COMPARTMENT)


def set_fragments() -> None:
    """Bound what waits to be put in order; to be called when nftables has had Linux do that. Raises OSError."""
    for name, value in _FRAGMENTS.items():
        _ensure(f"/proc/sys/net/{name}", str(value).encode())


def set_inner_end(interface: str) -> None:
    """Set a leg's end in the compartment, which must be up. Raises OSError.

    Only then does Linux mark the other end as one that XDP may redirect to, as GRO is turned on (6.3 and later).
    """
    _set(interface, _IN_COMPARTMENT)
    _set_offloads(interface)


def set_outer_end(interface: str) -> None:
    """Keep Linux on the gateway's side from taking part: no IPv6, no forwarding, no answers to ARP. Raises OSError."""
    _set(interface, _ON_GATEWAYS_SIDE)


def _set(interface: str, wanted: Mapping[str, Mapping[str, int]]) -> None:
    for family, values in wanted.items():
        for name, value in values.items():
            _ensure(f"/proc/sys/net/{family}/conf/{interface}/{name}", str(value).encode())


def _ensure(file: str, value: bytes) -> None:
    """Thousands of these are read at a start: no more than four system calls each."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.read(descriptor, 64).strip() != value:
            os.pwrite(descriptor, value, 0)
    finally:
        os.close(descriptor)


def _set_offloads(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        for (ask, change), wanted in _OFFLOADS.items():
            if _ethtool(control, interface, ask) != wanted:
                _ethtool(control, interface, change, wanted)


def _ethtool(control: socket.socket, interface: str, command: int, value: int = 0) -> int:
    """Do one command that takes or gives a number (struct ethtool_value)."""
    argument = (ctypes.c_uint32 * 2)(command, value)
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(argument))
    fcntl.ioctl(control, _SIOCETHTOOL, request)
    return argument[1]
