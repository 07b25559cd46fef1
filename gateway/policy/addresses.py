"""Addresses, prefixes and MACs as canonical strings, and as numbers on one line that holds both IP families.

Every function raises ValueError with a sentence that says what is wrong with the text it was given.
"""

import re
from functools import lru_cache
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

UNSPECIFIED = ("0.0.0.0", "::")
_IPV6_BASE = 1 << 128
_CANONICAL_MAC = re.compile(r"[0-9A-F]{2}(?:-[0-9A-F]{2}){5}").fullmatch
_MAC = re.compile(
    r"[0-9A-Fa-f]{2}(?:([-:.]?)[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}"
).fullmatch


class AddressRange(NamedTuple):
    """A prefix: its first and last address on the number line of `ordinal`, both inclusive, and its length in bits."""

    first: int
    last: int
    length: int


def family(text: str) -> int:
    """4 or 6, of a canonical address or prefix."""
    return 6 if ":" in text else 4


def address(text: str) -> str:
    """Return the canonical form of an IP address (RFC 5952 for IPv6)."""
    try:
        if ":" in text:
            return inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
        inet_pton(AF_INET, text)  # strict: four decimal octets without leading zeros, so the text is canonical already
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IP address") from None
    return text


def _split(text: str) -> tuple[str, int]:
    host, slash, length = text.partition("/")
    host = address(host)
    if not slash:
        raise ValueError(f"{text!r} has no prefix length: write {host}/{_bits(host)} for this one address")
    if not (length.isascii() and length.isdigit()) or len(length) > 3 or int(length) > _bits(host):
        raise ValueError(f"{text!r} has a prefix length that is not a number from 0 to {_bits(host)}")
    return host, int(length)


def _bits(host: str) -> int:
    return 128 if ":" in host else 32


def prefix(text: str) -> str:
    """Return the canonical form of an IP prefix. Host bits are refused."""
    host, length = _split(text)
    canonical = f"{host}/{length}"
    network = ip_network(canonical, strict=False)
    if address(str(network.network_address)) != host:
        raise ValueError(f"{text!r} has bits set beyond its prefix length: write {network}")
    return canonical


def address_or_prefix(text: str) -> str:
    """Return the canonical form of an IP prefix, or the prefix of an address alone. Host bits are refused."""
    if "/" in text:
        return prefix(text)
    host = address(text)
    return f"{host}/{_bits(host)}"


def interface_address(text: str) -> str:
    """Return the canonical form of an address with the prefix length of its network, such as 192.0.2.1/24."""
    host, length = _split(text)
    return f"{host}/{length}"


def mac(text: str) -> str:
    """Return a unicast MAC address in the form 00-1D-D8-B7-1C-00; in the text '-', ':', '.' or nothing separates."""
    canonical = text if _CANONICAL_MAC(text) else _canonical_mac(text)
    if canonical[1] in "13579BDF":
        raise ValueError(f"{text!r} is a multicast MAC address")
    if canonical == "00-00-00-00-00-00":
        raise ValueError(f"{text!r} is not the address of any interface")
    return canonical


def _canonical_mac(text: str) -> str:
    if not _MAC(text):
        raise ValueError(f"{text!r} is not a MAC address such as 00-1D-D8-B7-1C-00")
    digits = re.sub("[-:.]", "", text).upper()
    return "-".join(digits[at : at + 2] for at in range(0, 12, 2))


def ordinal(canonical: str) -> int:
    """Return the address as a number; IPv6 addresses come after all of IPv4, so that families never meet."""
    if ":" in canonical:
        return _IPV6_BASE + int.from_bytes(inet_pton(AF_INET6, canonical))
    return int.from_bytes(inet_pton(AF_INET, canonical))


def from_ordinal(number: int) -> str:
    """Return the canonical address that `ordinal` makes this number of."""
    if number >= _IPV6_BASE:
        return inet_ntop(AF_INET6, (number - _IPV6_BASE).to_bytes(16))
    return inet_ntop(AF_INET, number.to_bytes(4))


@lru_cache(maxsize=1 << 14)
def address_range(canonical: str) -> AddressRange:
    """Return the addresses of a canonical prefix, or of the network that a canonical interface address lies in."""
    host, _, length = canonical.partition("/")
    host_bits = _bits(host) - int(length)
    first = ordinal(host) >> host_bits << host_bits
    return AddressRange(first, first + (1 << host_bits) - 1, int(length))


def network_of(canonical: str) -> str:
    """Return the prefix that a canonical interface address lies in: 157.1.0.254/16 -> 157.1.0.0/16."""
    network = address_range(canonical)
    return f"{from_ordinal(network.first)}/{network.length}"


def lowest_usable(canonical: str) -> str:
    """Return the lowest address of a prefix that a host may have: the first but one, or the first of two (RFC 3021)."""
    network = address_range(canonical)
    return from_ordinal(network.first + (1 if network.last - network.first > 1 else 0))


def highest_usable(canonical: str, beside: str) -> str | None:
    """Return the highest address of a prefix that a host may have and that is not `beside`, None if there is none.

    IPv6 has no broadcast address, and neither has a network of two (RFC 3021).
    """
    network = address_range(canonical)
    wide = network.last - network.first > 1
    highest = network.last - (1 if wide and family(canonical) == 4 else 0)
    lowest = network.first + (1 if wide else 0)
    if highest == ordinal(beside):
        highest -= 1
    return from_ordinal(highest) if highest >= lowest else None


# No packet to or from these may cross a router: RFC 6890, RFC 4291 2.5.5 (IPv4-compatible, IPv4-mapped).
_NOT_ROUTABLE = tuple(
    (address_range(text), name)
    for text, name in (
        ("0.0.0.0/8", "of this network (RFC 1122)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/3", "multicast or reserved"),
        ("::/96", "unspecified, loopback or IPv4-compatible"),
        ("::ffff:0.0.0.0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)


@lru_cache(maxsize=1 << 14)
def why_not_routable(canonical: str) -> str | None:
    """Tell what kind of never routed address or prefix this is, None if it (of a prefix: some of it) may be routed."""
    network = address_range(canonical if "/" in canonical else f"{canonical}/{_bits(canonical)}")
    for excluded, name in _NOT_ROUTABLE:
        if excluded.first <= network.first and network.last <= excluded.last:
            return name
    return None


def unroutable_within(canonical: str) -> str | None:
    """Tell what kind of never routed addresses a prefix holds, None if it holds none."""
    network = address_range(canonical)
    for excluded, name in _NOT_ROUTABLE:
        if excluded.first <= network.last and network.first <= excluded.last:
            return name
    return None
