"""What may pass in a compartment: nothing of the tenant leaves by the outside in clear, and nothing enters there so.

One for fragments gives back what came, and that is all: nothing is delivered there, and nothing is said. Linux puts
fragments together where connections are looked at (`ct`), and looks no further at what is untracked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.compartments.nftables import Nftables
from gateway.compartments.specification import INSIDE, OUTSIDE, CompartmentSpecification

_TABLE = "inet tenant_gateway"
_TUNNELS = '{ "ipsec*", "xfrm*" }'
_NO_MULTICAST = "icmpv6 type mld2-listener-report drop"  # nobody at the other ends listens to them
_IKE_PORTS = "{ 500, 4500 }"  # RFC 7296 section 2; where there is a NAT, ESP too uses 4500 (RFC 3948)


@dataclass(frozen=True, slots=True)
class _Family:
    """nftables' words."""

    ip: str
    protocols: str
    echo: str


_FAMILIES = {
    4: _Family("ip", "icmp, esp", "icmp type { echo-reply, echo-request }"),
    6: _Family("ip6", "esp, ipv6-icmp", "icmpv6 type { echo-request, echo-reply }"),
}


def ensure(specification: CompartmentSpecification) -> None:
    """Give the calling thread's namespace the rules, if it has not got them. Raises NftablesError."""
    wanted = _returning() if specification.for_fragments else _table(specification.outside_addresses)
    with Nftables() as nftables:
        if nftables.table(_TABLE) != wanted:
            nftables.replace(_TABLE, wanted)


def _table(outside_addresses: Sequence[str]) -> str:
    """The rules as nftables lists them, so that they can be compared."""
    forward = [f'iifname "{INSIDE}" oifname {_TUNNELS} accept', f'iifname {_TUNNELS} oifname "{INSIDE}" accept']
    chains = [
        _chain("input", [f'iifname != "{OUTSIDE}" accept', *_arriving(outside_addresses)]),
        _chain("forward", forward),
        _chain("output", [_NO_MULTICAST, f'oifname != "{OUTSIDE}" accept', *_leaving(outside_addresses)]),
    ]
    return _joined(chains)


def _returning() -> str:
    return _joined(
        [
            _chain("prerouting", ["notrack"], priority="raw", policy="accept"),
            _chain("input", []),
            _chain("forward", [f'iifname "{INSIDE}" oifname "{INSIDE}" ct state untracked accept']),
            _chain("output", []),
        ]
    )


def _joined(chains: Sequence[str]) -> str:
    return f"table {_TABLE} {{\n" + "\n".join(chains) + "}\n"


def _chain(hook: str, rules: Sequence[str], priority: str = "filter", policy: str = "drop") -> str:
    lines = [f"type filter hook {hook} priority {priority}; policy {policy};", *rules]
    return f"\tchain {hook} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _arriving(addresses: Sequence[str]) -> Iterator[str]:
    for family, ours in _by_family(addresses):
        yield f"{family.ip} daddr {ours} udp dport {_IKE_PORTS} accept"
        yield f"{family.ip} daddr {ours} meta l4proto {{ {family.protocols} }} accept"
        if family.ip == "ip6":  # IPv6 meets the rules in fragments; without its first, no packet is delivered
            yield f"ip6 daddr {ours} frag frag-off != 0 accept"


def _leaving(addresses: Sequence[str]) -> Iterator[str]:
    """Of ICMP only echo: an error would quote the packet that it is about, and that may be the tenant's."""
    for family, ours in _by_family(addresses):
        yield f"{family.ip} saddr {ours} udp sport {_IKE_PORTS} accept"
        yield f"{family.ip} saddr {ours} meta l4proto esp accept"
        yield f"{family.ip} saddr {ours} {family.echo} accept"


def _by_family(addresses: Sequence[str]) -> Iterator[tuple[_Family, str]]:
    for version, family in _FAMILIES.items():
        ours = sorted((address for address in map(ip_address, addresses) if address.version == version), key=int)
        if ours:
            yield family, str(ours[0]) if len(ours) == 1 else f"{{ {', '.join(map(str, ours))} }}"
