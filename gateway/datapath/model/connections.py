"""Stateful access lists: the first packet of a flow is asked about, later ones pass by the connection's entry."""

from dataclasses import dataclass, field

from gateway.datapath.model import access_lists
from gateway.datapath.model.access_lists import Flow, Opinion, Side, flow_of
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import TCP, UDP, Address, Packet, quoted
from gateway.datapath.model.verdict import DropReason

FIN, RST = 0x01, 0x04

TCP_ESTABLISHED_SECONDS = 7200
TCP_HALF_OPEN_SECONDS = 60
TCP_CLOSING_SECONDS = 60
UDP_SECONDS = 180
OTHER_SECONDS = 60
FRAGMENT_SECONDS = 30

Key = tuple[str, frozenset[tuple[Address, int]], int]
FragmentKey = tuple[str, frozenset[Address], int, int]


@dataclass(slots=True)
class Connection:
    """A flow that was allowed, in the direction of its first packet, by the lists of `generation`."""

    initiated: Flow
    generation: int
    seen: float
    answered: bool = False
    closing: bool = False

    @property
    def idle_seconds(self) -> int:
        if self.initiated.protocol == UDP:
            return UDP_SECONDS
        if self.initiated.protocol != TCP:
            return OTHER_SECONDS
        if self.closing:
            return TCP_CLOSING_SECONDS
        return TCP_ESTABLISHED_SECONDS if self.answered else TCP_HALF_OPEN_SECONDS


@dataclass(slots=True)
class Connections:
    """Of all domains, by key; `generations` counts the changes of each domain's lists and virtual subnets."""

    flows: dict[Key, Connection] = field(default_factory=dict)
    fragments: dict[FragmentKey, float] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    def lists_changed(self, domain_id: str) -> None:
        self.generations[domain_id] = self.generation(domain_id) + 1

    def generation(self, domain_id: str) -> int:
        return self.generations.get(domain_id, 0)

    def ask(self, domain: Domain, packet: Packet, sender: Side, receiver: Side, now: float) -> Opinion:
        """Whether the packet may go from `sender` to `receiver`; remembers what later packets need."""
        if packet.fragment_offset:
            return self._ask_later_fragment(domain, packet, now)
        opinion = self._ask_flow(domain, packet, sender, receiver, now)
        if packet.more_fragments and opinion.denied is None:
            self.fragments[_fragment_key(domain, packet)] = now
        return opinion

    def _ask_later_fragment(self, domain: Domain, packet: Packet, now: float) -> Opinion:
        first_seen = self.fragments.get(_fragment_key(domain, packet))
        if first_seen is None or now - first_seen > FRAGMENT_SECONDS:
            return Opinion(DropReason.FRAGMENT_UNMATCHED, "", "The first fragment of the packet was not seen.")
        return Opinion(None, "", "The first fragment of the packet was allowed.")

    def _ask_flow(self, domain: Domain, packet: Packet, sender: Side, receiver: Side, now: float) -> Opinion:
        if packet.is_icmp_error:
            quote = quoted(packet)
            if quote is not None and self._live(domain, flow_of(quote), now) is not None:
                return Opinion(None, "", "The ICMP error is about a connection that was allowed.")
        flow = flow_of(packet)
        connection = self._live(domain, flow, now)
        if connection is not None:
            opinion = self._ask_again(domain, connection, flow, sender, receiver)
        else:
            opinion = access_lists.ask(domain, flow, sender, receiver)
            if opinion.denied is None and not packet.is_icmp_error:
                connection = Connection(flow, self.generation(domain.id), now)
                self.flows[_key(domain, flow)] = connection
        if connection is not None and opinion.denied is None:
            connection.seen = now
            connection.answered |= flow != connection.initiated
            connection.closing |= bool(packet.tcp_flags & (FIN | RST))
        return opinion

    def _ask_again(self, domain: Domain, connection: Connection, flow: Flow, sender: Side, receiver: Side) -> Opinion:
        """A connection stands as long as the lists that allowed it; newer ones are asked about its first direction."""
        if connection.generation == self.generation(domain.id):
            return Opinion(None, "", "A packet of a connection that was allowed.")
        if flow != connection.initiated:
            sender, receiver = receiver, sender
        opinion = access_lists.ask(domain, connection.initiated, sender, receiver)
        if opinion.denied is None:
            connection.generation = self.generation(domain.id)
        else:
            del self.flows[_key(domain, flow)]
        return opinion

    def _live(self, domain: Domain, flow: Flow, now: float) -> Connection | None:
        connection = self.flows.get(_key(domain, flow))
        if connection is None or now - connection.seen > connection.idle_seconds:
            return None
        return connection


def _key(domain: Domain, flow: Flow) -> Key:
    ends = frozenset(((flow.source, flow.source_port), (flow.destination, flow.destination_port)))
    return domain.id, ends, flow.protocol


def _fragment_key(domain: Domain, packet: Packet) -> FragmentKey:
    return domain.id, frozenset((packet.source, packet.destination)), packet.protocol, packet.identification
