"""The ports of public addresses that outbound NAT lends, in blocks of 4,096: a port's high four bits are its block."""

from collections.abc import Iterator
from itertools import groupby

from gateway.policy.balancing import LoadBalancer, OutboundNat
from gateway.policy.fields import port_ranges
from gateway.policy.model import RoutingDomain

BLOCK_PORTS = 4096
ALL_BLOCKS = 0xFFFE  # bit n: ports n * 4,096 to n * 4,096 + 4,095; the lowest are lent to nobody


def whole_blocks(first: int, last: int) -> tuple[int, int]:
    """Return the smallest range of whole blocks that may be lent around a range of ports."""
    lowest = max(first // BLOCK_PORTS, 1)
    return lowest * BLOCK_PORTS, max(last // BLOCK_PORTS, lowest) * BLOCK_PORTS + BLOCK_PORTS - 1


def block_of(port: int) -> int:
    """Return the block of a port, as a bit."""
    return 1 << port // BLOCK_PORTS


def blocks_of(ports: str) -> int:
    """Return the blocks that canonical ranges of ports lie in, as bits."""
    ranges = (whole_blocks(*each) for each in port_ranges(ports))
    return sum({1 << block for first, last in ranges for block in range(first // BLOCK_PORTS, last // BLOCK_PORTS + 1)})


def ports_of(blocks: int) -> str:
    """Return the ranges of ports of these blocks: "4096-12287,20480-24575"."""
    numbered = enumerate(block for block in range(16) if blocks >> block & 1)
    runs = [[block for _, block in run] for _, run in groupby(numbered, lambda each: each[1] - each[0])]
    return ",".join(f"{run[0] * BLOCK_PORTS}-{run[-1] * BLOCK_PORTS + BLOCK_PORTS - 1}" for run in runs)


def blocks_lent(balancer: LoadBalancer) -> list[int]:
    """Return what each outbound NAT of a load balancer lends: what it names, else what none of its frontend does."""
    named = _named(balancer)
    return [
        ALL_BLOCKS & ~named[one.frontend] if one.ports is None else blocks_of(one.ports)
        for one in balancer.outbound_nat
    ]


def _named(balancer: LoadBalancer) -> dict[str, int]:
    """All blocks that are named, by frontend."""
    found = {one.frontend: 0 for one in balancer.outbound_nat}
    for one in balancer.outbound_nat:
        found[one.frontend] |= blocks_of(one.ports) if one.ports is not None else 0
    return found


def _shareable(balancer: LoadBalancer) -> dict[str, int]:
    """The blocks of the frontends for nothing but outbound NAT of which all name their ports."""
    greedy = {one.frontend for one in balancer.rules} | {one.frontend for one in balancer.inbound_nat_rules}
    greedy |= {one.frontend for one in balancer.outbound_nat if one.ports is None}
    return {name: blocks for name, blocks in _named(balancer).items() if name not in greedy}


def shared_addresses(domain: RoutingDomain) -> dict[str, int]:
    """Return the public addresses that other domains may lend other ports of, each with the blocks of this domain's.

    All other addresses are the domain's alone.
    """
    return {
        frontend.address: shareable[frontend.name]
        for balancer in domain.load_balancers
        for shareable in [_shareable(balancer)]
        for frontend in balancer.frontends
        if frontend.public and frontend.name in shareable
    }


def shared_ports(domain: RoutingDomain) -> Iterator[tuple[str, str, int]]:
    """Yield address and blocks of every outbound NAT from these addresses, after the pointer to its ports."""
    shared = shared_addresses(domain)
    for index, balancer in enumerate(domain.load_balancers):
        address_of = {one.name: one.address for one in balancer.frontends}
        for number, entry in enumerate(balancer.outbound_nat):
            address = address_of.get(entry.frontend)
            if address in shared and entry.ports is not None:
                yield f"/load_balancers/{index}/outbound_nat/{number}/ports", address, blocks_of(entry.ports)


def lent(domain: RoutingDomain) -> Iterator[tuple[str, int, OutboundNat]]:
    """Yield address and blocks of all outbound NAT of a domain."""
    for balancer in domain.load_balancers:
        address_of = {one.name: one.address for one in balancer.frontends}
        for entry, blocks in zip(balancer.outbound_nat, blocks_lent(balancer), strict=True):
            yield address_of[entry.frontend], blocks, entry


def whose(entry: OutboundNat) -> str:
    """Say which machines an outbound NAT is for."""
    subnet = f"virtual subnet {entry.vsid}"
    return f"{', '.join(entry.customer_prefixes)} of {subnet}" if entry.customer_prefixes else subnet
