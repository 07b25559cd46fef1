"""Access control lists, asked rule by rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from gateway.datapath.model.domains import AccessList, Domain
from gateway.datapath.model.ip import TCP, UDP, Address, Packet
from gateway.datapath.model.verdict import DropReason
from gateway.policy.fields import port_ranges
from gateway.policy.model import AccessRule


@dataclass(frozen=True, slots=True)
class Flow:
    """What rules look at; the ports of an ICMP echo are its identifier and match no rule."""

    source: Address
    destination: Address
    protocol: int
    source_port: int
    destination_port: int

    def reversed(self) -> "Flow":
        return Flow(self.destination, self.source, self.protocol, self.destination_port, self.source_port)


def flow_of(packet: Packet) -> Flow:
    return Flow(packet.source, packet.destination, packet.protocol, packet.source_port, packet.destination_port)


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a flow as lists apply to it: its VSID and the CA of its record; both None outside the overlay."""

    vsid: int | None = None
    customer_address: Address | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the lists say: `denied` is the reason of the drop, None where they allow."""

    denied: DropReason | None
    entry: str
    words: str


def ask(domain: Domain, flow: Flow, sender: Side, receiver: Side) -> Opinion:
    """The opinion of all lists on the sender's side, then of all on the receiver's: every one must allow."""
    opinion = Opinion(None, "", "No access list applies.")
    sides = (
        ("outbound", sender, DropReason.ACCESS_LIST_OUTBOUND),
        ("inbound", receiver, DropReason.ACCESS_LIST_INBOUND),
    )
    for direction, side, reason in sides:
        for access_list in _applying(domain, side):
            entry, action = _decide(access_list, direction, flow)
            words = f"The list {access_list.list.name} says {action} ({direction})."
            if action == "deny":
                return Opinion(reason, entry, words)
            opinion = Opinion(None, entry, words)
    return opinion


def _applying(domain: Domain, side: Side) -> Iterator[AccessList]:
    for access_list in domain.access_lists:
        if any(_applies(target.vsid, target.customer_address, side) for target in access_list.list.applies_to):
            yield access_list


def _applies(vsid: int | None, customer_address: str | None, side: Side) -> bool:
    if vsid is not None:
        return vsid == side.vsid
    return customer_address is not None and ip_address(customer_address) == side.customer_address


def _decide(access_list: AccessList, direction: str, flow: Flow) -> tuple[str, str]:
    """The entry that decides and its action: the first matching rule by priority, else the list's default."""
    rules = sorted(enumerate(access_list.list.rules), key=lambda numbered: numbered[1].priority)
    for number, rule in rules:
        if rule.direction == direction and _matches(rule, flow):
            return f"{access_list.entry}/rules/{number}", rule.action
    default = access_list.list.default_outbound if direction == "outbound" else access_list.list.default_inbound
    return f"{access_list.entry}/default_{direction}", default


def _matches(rule: AccessRule, flow: Flow) -> bool:
    return (
        rule.protocol_number() in (None, flow.protocol)
        and _in_prefix(rule.source_prefix, flow.source)
        and _in_prefix(rule.destination_prefix, flow.destination)
        and _in_ports(rule.source_ports, flow.protocol, flow.source_port)
        and _in_ports(rule.destination_ports, flow.protocol, flow.destination_port)
    )


def _in_prefix(prefix: str | None, address: Address) -> bool:
    return prefix is None or address in ip_network(prefix)


def _in_ports(ports: str | None, protocol: int, port: int) -> bool:
    if ports is None:
        return True
    return protocol in (TCP, UDP) and any(first <= port <= last for first, last in port_ranges(ports))
