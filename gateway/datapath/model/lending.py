"""Ports of public addresses that machines have in place of their own: who lends them to whom."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from gateway.datapath.model.ip import Address
from gateway.datapath.model.routes import Prefix
from gateway.policy.balancing import LoadBalancer
from gateway.policy.lending import block_of, blocks_lent, ports_of


@dataclass(frozen=True, slots=True)
class Outbound:
    """Lends ports of a frontend, `blocks` of them as bits, to machines of a virtual subnet.

    Those are in `customers`; where there are none, all others.
    """

    entry: str
    frontend: str
    address: Address
    vsid: int
    customers: tuple[Prefix, ...]
    blocks: int

    def lends(self, port: int) -> bool:
        return bool(self.blocks & block_of(port))

    @property
    def words(self) -> str:
        """Whom it is for and what it lends."""
        some = f"{', '.join(map(str, self.customers))} of " if self.customers else ""
        return f"{some}VSID {self.vsid} reaches the Internet as {self.frontend}, with ports {ports_of(self.blocks)}."

    def closeness(self, machine: Address) -> int | None:
        """How long the prefix around the machine is; None if it is for others."""
        around = [one.prefixlen for one in self.customers if machine in one]
        return max(around, default=None) if self.customers else -1


def build(at: str, balancer: LoadBalancer) -> Iterator[Outbound]:
    """What the outbound NAT of a load balancer lends."""
    address_of = {one.name: ip_address(one.address) for one in balancer.frontends}
    for index, (entry, blocks) in enumerate(zip(balancer.outbound_nat, blocks_lent(balancer), strict=True)):
        customers = tuple(ip_network(one) for one in entry.customer_prefixes)
        at_entry = f"{at}/outbound_nat/{index}"
        yield Outbound(at_entry, entry.frontend, address_of[entry.frontend], entry.vsid, customers, blocks)


def lender_to(lenders: Iterable[Outbound], vsid: int | None, machine: Address) -> Outbound | None:
    """The one from which a machine of a virtual subnet has its ports."""
    found = [
        (closeness, one)
        for one in lenders
        if one.vsid == vsid and one.address.version == machine.version
        for closeness in [one.closeness(machine)]
        if closeness is not None
    ]
    return max(found, key=lambda each: each[0])[1] if found else None
