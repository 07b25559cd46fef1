"""nftables of a compartment for its tunnels: MSS, which rate a packet counts against, and how many may begin with IKE.

What may pass at all is the compartment's own table's to say: this one drops nothing but a flood.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from gateway.compartments.nftables import Nftables

_TABLE = "inet tenant_gateway_vpn"
_TUNNELS = '{ "ipsec*", "xfrm*" }'
_TCP_AND_IP_BYTES = {4: 40, 6: 60}
_WORDS = {4: "ip", 6: "ip6"}
# An IKE_SA_INIT request, RFC 7296 section 3.1: exchange type 34, and of the flags not the one of a response. On port
# 4500 four zeros come before the header.
_FIRST_MESSAGE = (
    "udp dport 500 @th,208,8 34 @th,216,8 & 0x20 == 0",
    "udp dport 4500 @th,64,32 0 @th,240,8 34 @th,248,8 & 0x20 == 0",
)
_FIRST_MESSAGES_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class Marked:
    """What from a source is behind a tunnel: the largest inner packet in bytes; the class of its rates, 0 for none."""

    source: str
    prefix: str
    device: str
    mtu: int
    rate_class: int


def set_rules(marked: Iterable[Marked]) -> None:
    """Make the table of the calling thread's namespace what it should be. Raises NftablesError."""
    with Nftables() as nftables:
        nftables.replace(_TABLE, table(marked))


def table(marked: Iterable[Marked]) -> str:
    """Write the table. A later rule overrides an earlier one, so the shortest come first, as routes are looked up."""
    rules = [rule for entry in sorted(marked, key=_lengths) for rule in _rules(entry)]
    limit = f"limit rate over {_FIRST_MESSAGES_PER_SECOND}/second burst {_FIRST_MESSAGES_PER_SECOND} packets drop"
    first_messages = [f"{match} {limit}" for match in _FIRST_MESSAGE]
    return (
        f"table {_TABLE} {{\n"
        "chain forward { type filter hook forward priority mangle; policy accept;\n"
        f"oifname {_TUNNELS} tcp flags syn tcp option maxseg size set rt mtu\n"
        + "".join(f"{rule}\n" for rule in rules)
        + "}\nchain input { type filter hook input priority mangle; policy accept;\n"
        + "".join(f"{rule}\n" for rule in first_messages)
        + "}\n}\n"
    )


def _lengths(entry: Marked) -> tuple[int, int, str, str]:
    source, prefix = ip_network(entry.source), ip_network(entry.prefix)
    return source.prefixlen, prefix.prefixlen, entry.source, entry.prefix


def _rules(entry: Marked) -> Iterator[str]:
    source = ip_network(entry.source)
    version, word = source.version, _WORDS[source.version]
    sent, received = (f"{word} {field} {source} " if source.prefixlen else "" for field in ("saddr", "daddr"))
    into = f'oifname "{entry.device}" {sent}{word} daddr {entry.prefix}'
    out_of = f'iifname "{entry.device}" {received}{word} saddr {entry.prefix}'
    segment = entry.mtu - _TCP_AND_IP_BYTES[version]
    yield f"{out_of} tcp flags syn tcp option maxseg size set {segment}"
    if entry.rate_class:
        yield f"{into} meta priority set 1:{entry.rate_class:x}"
        yield f"{out_of} meta priority set 1:{entry.rate_class:x}"
