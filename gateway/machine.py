"""The running gateway beneath the policy, as status, metrics and `explain` show it."""

import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from gateway.api.machine import Counters, DomainCounters, Fill, PortState, Traffic
from gateway.api.services import Serving
from gateway.compartments.names import INTERFACE_PREFIXES
from gateway.configuration import GatewayConfiguration, Port
from gateway.datapath import statistics
from gateway.datapath.connection_use import ConnectionUse, Use
from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import BpfError
from gateway.datapath.loader import Datapath
from gateway.datapath.model.question import Question
from gateway.exhaustion import REASON, Exhaustion
from gateway.explanation import explanation
from gateway.policy.model import Policy
from gateway.programming.block import LINE_BYTES
from gateway.programming.programmer import Programmer
from gateway.underlay import forwarding_guard
from gateway.underlay.network import Link
from gateway.underlay.underlay import LinksChanged, Underlay

log = structlog.get_logger(__name__)
_NOTHING = statistics.DomainStatistics({}, {})


class Machine:
    """Joins datapath, programmer and underlay: interfaces that come and go are attached and reported here."""

    def __init__(
        self,
        configuration: GatewayConfiguration,
        datapath: Datapath,
        layout: Layout,
        programmer: Programmer,
        fault: str | None,
    ) -> None:
        self.name = configuration.name
        self._datapath = datapath
        self._layout = layout
        self._connection_use = ConnectionUse(datapath, layout)
        self._exhaustion = Exhaustion()
        self._configuration = configuration
        self._programmer = programmer
        self._fault = fault
        self._interfaces = {port.interface for port in configuration.ports}
        self._lock = threading.Lock()  # of the following three
        self._links: dict[str, Link] = {}
        self._refused: dict[str, str] = {}
        self._guarded: frozenset[str] = frozenset()
        self._guard_fault: str | None = None
        self._listener: LinksChanged = lambda changes: None
        self._underlay = Underlay(configuration.provider_addresses(), programmer.hops_changed, self._links_changed)
        programmer.follow(self._underlay)
        links = self._underlay.links()
        self._links_changed(links)
        for name in sorted(self._interfaces - links.keys()):
            log.warning("interface_missing", interface=name, present=sorted(links))

    def close(self) -> None:
        """Stop following Linux; what is attached forwards on."""
        self._underlay.close()

    def tell_of_links(self, listener: LinksChanged) -> None:
        """Call `listener`, from the underlay's thread, after interfaces changed."""
        self._listener = listener

    def links(self) -> Mapping[str, Link]:
        """Return the interfaces of the machine by their names."""
        return self._underlay.links()

    def ports(self) -> list[PortState]:
        """Return the configured ports with what the kernel says of them."""
        links, attached = self._underlay.links(), self._datapath.attached()
        return [self._port_state(port, links, attached) for port in self._configuration.ports]

    def counters(self) -> Counters:
        """Read the counters of the datapath."""
        read = statistics.read(self._datapath, self._layout)
        outside = read.pop(0, None)
        used, lines = self._programmer.used_lines()
        numbers = self._programmer.numbers()
        connections = self._connection_use.read(numbers, time.monotonic_ns())
        return Counters(
            domains={
                domain_id: _counters(read.get(number, _NOTHING), connections.get(domain_id))
                for domain_id, number in numbers.items()
                if number in read or domain_id in connections
            },
            drops=outside.drops if outside else {},
            fill={"tables": Fill(used * LINE_BYTES, lines * LINE_BYTES, "bytes")},
        )

    def warn_of_exhaustion(self) -> None:
        """Log who had no port left to lend since the last time. To be called now and then."""
        read = statistics.read(self._datapath, self._layout)
        numbers = self._programmer.numbers()
        self._exhaustion.look({rdid: read.get(at, _NOTHING).drops.get(REASON, 0) for rdid, at in numbers.items()})

    def unresolved(self) -> list[str]:
        """Return the provider addresses in use that Linux knows no way to, or no neighbour for."""
        return self._programmer.unresolved()

    def faults(self) -> list[str]:
        """Return what is wrong with the machine at this moment."""
        return [fault for fault in (self._fault, self._guard_fault) if fault]

    def explain(self, policy: Policy, question: Question, serving: Serving) -> dict[str, Any]:
        """Run the reference model on a described packet, amid what serves the policy now. Raises QuestionError."""
        links, hops = self._underlay.links(), self._underlay.hops()
        return explanation(question, policy, self._configuration, links, hops, serving)

    def _links_changed(self, changes: Mapping[str, Link | None]) -> None:
        with self._lock:
            self._links.update({name: link for name, link in changes.items() if link is not None})
            for name in changes.keys() - {name for name, link in changes.items() if link}:
                self._links.pop(name, None)
            for name in self._interfaces & changes.keys():
                self._refused.pop(name, None)
                log.info("interface_changed", interface=name, present=changes[name] is not None)
            for name, why in self._take_over(changes).items():
                self._refused[name] = why
                log.error("interface_refused", interface=name, why=why)
            self._guard()
            if None in changes.values():
                self._datapath.attached()  # which removes what is pinned for interfaces that are gone
        self._listener(changes)

    def _take_over(self, changes: Mapping[str, Link | None]) -> dict[str, str]:
        # The programmer is told of compartments' legs by who makes them: hundreds may come at once.
        changes = {name: link for name, link in changes.items() if not name.startswith(INTERFACE_PREFIXES)}
        try:
            return self._programmer.links_changed(changes) if changes else {}
        except BpfError as error:  # it went away while it was taken over: the next event tells
            return dict.fromkeys(self._interfaces & changes.keys(), str(error))

    def _guard(self) -> None:
        """Keep Linux from routing tenants' packets in clear, also through VLAN devices on our interfaces."""
        indexes = {link.index for name, link in self._links.items() if name in self._interfaces}
        devices = {name for name, link in self._links.items() if link.parent_index in indexes}
        wanted = frozenset(self._interfaces | devices | {f"{prefix}*" for prefix in INTERFACE_PREFIXES})
        if wanted == self._guarded:
            return
        try:
            forwarding_guard.install(wanted)
        except forwarding_guard.ForwardingGuardError as error:
            self._guard_fault = str(error)
            log.error("forwarding_not_guarded", why=str(error))
        else:
            self._guard_fault, self._guarded = None, wanted

    def _port_state(self, port: Port, links: Mapping[str, Link], attached: Collection[int]) -> PortState:
        link = links.get(port.interface)
        if link is None:
            state, detail = "missing", f"there is no interface {port.interface}; there are {', '.join(sorted(links))}"
        elif port.interface in self._refused:
            state, detail = "refused", self._refused[port.interface]
        elif link.index not in attached:
            state, detail = "detached", f"somebody detached the datapath from {port.interface}: restart the gateway"
        elif not link.up:
            state, detail = "down", f"ip link set {port.interface} up"
        else:
            state, detail = "attached", ""
        return PortState(port.name, port.role, port.interface, port.vlan, state, detail)


def _counters(read: statistics.DomainStatistics, connections: Use | None) -> DomainCounters:
    return DomainCounters(
        {name: Traffic(*counted) for name, counted in read.traffic.items()},
        read.drops,
        Fill(connections.used, connections.places, "entries") if connections else None,
        read.ordered,
    )
