"""Makes the datapath hold a policy: compile, write beside the old, switch one word a domain, read back.

Entries found before the domain is known (VSIDs, ports, rewritten addresses) lie in the directory. Those that go
are withdrawn from it before the domain's table is switched, and those that come are named after. So a packet meets the
old policy of a domain or the new one, and what moves from one domain to another belongs to none in between.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.configuration import GatewayConfiguration
from gateway.datapath.grace import grace
from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import BpfError
from gateway.datapath.loader import Datapath
from gateway.policy.model import AccessControlList, Policy, RoutingDomain
from gateway.programming.admission import Siblings, admitted, moved_from, siblings_of
from gateway.programming.block import Bytes, CapacityError
from gateway.programming.classifier import compile_access_list
from gateway.programming.directory_block import compile_directory
from gateway.programming.domain_block import Surroundings, compile_domain, generation_of, mac_bytes
from gateway.programming.endpoints import Endpoints
from gateway.programming.holdings import NOTHING, Holdings, between, conflict, directory_of, holdings_of
from gateway.programming.memory import Memory, Placed
from gateway.programming.ports import Ports
from gateway.programming.routes import PortName
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from gateway.underlay.underlay import Underlay

GENERATIONS = 255


@dataclass(slots=True)
class _Programmed:
    """What the datapath holds of a domain. `domain` is None after a restart, until it is compared."""

    number: int
    placed: Placed
    holdings: Holdings = NOTHING
    domain: RoutingDomain | None = None
    generation: int = 0
    moving: frozenset[str] = frozenset()
    lists: dict[str, tuple[AccessControlList, Bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A domain's new block, written but not yet met by any packet."""

    domain: RoutingDomain
    number: int
    placed: Placed
    holdings: Holdings
    generation: int
    moving: frozenset[str]
    lists: dict[str, tuple[AccessControlList, Bytes]]


class Programmer:
    """The one writer of the datapath's memory. All methods may be called from any thread."""

    def __init__(self, datapath: Datapath, layout: Layout, configuration: GatewayConfiguration) -> None:
        self._layout = layout
        self._configuration = configuration
        self._lock = threading.RLock()
        self._memory = Memory(datapath, layout)
        self._ports = Ports(datapath, layout, configuration.provider_links())
        self._endpoints = Endpoints(datapath.maps["endpoints"], layout, self._ports)
        self._interfaces = {port.name: port.interface for port in configuration.ports}
        self._vlans = {port.name: port.vlan for port in configuration.ports}
        self._underlay: Underlay | None = None
        self._siblings: Siblings = {}
        self._hosts: frozenset[str] = frozenset()  # that have a number in the directory
        self._directory: Placed | None
        self._directory, adopted = self._memory.adopt()
        self._programmed = {
            rdid: _Programmed(number, placed, generation=generation_of(placed.block, layout))
            for rdid, (number, placed) in adopted.items()
        }

    def follow(self, underlay: Underlay) -> None:
        """Take interfaces and next hops from here from now on."""
        with self._lock:
            self._underlay = underlay
            self.links_changed(underlay.links())
            underlay.want(self._endpoints.addresses())

    def hops_changed(self, changes: Mapping[str, Hop | None]) -> None:
        """Underlay's callback: the way to these provider addresses is another now."""
        with self._lock:
            self._endpoints.hops_changed(changes)

    def links_changed(self, changes: Mapping[str, Link | None]) -> dict[str, str]:
        """Underlay's callback: interfaces came, went or changed. Returns {interface: why it could not be attached}."""
        with self._lock:
            self._ports.links_changed(changes)
            refused = {}
            for interface in dict.fromkeys(self._interfaces.values()):
                if changes.get(interface) is not None:
                    try:
                        self._ports.attach(interface)
                    except BpfError as error:
                        refused[interface] = str(error)
            if all(each.domain is not None for each in self._programmed.values()):
                self._publish(self._holdings())
            return refused

    def apply(self, policy: Policy) -> dict[str, str]:
        """Make the datapath hold exactly this policy; {RDID: why} for domains whose old state stays."""
        return self._apply(policy, {domain.id for domain in policy.routing_domains} | set(self._programmed))

    def apply_domain(self, policy: Policy, domain_id: str) -> dict[str, str]:
        """The same where only this domain was added, changed or deleted since."""
        return self._apply(policy, {domain_id})

    def verify(self) -> dict[str, str]:
        """Read the maps back: {RDID: what differs from what was programmed}."""
        with self._lock:
            return self._verify(self._programmed)

    def _verify(self, domain_ids: Iterable[str]) -> dict[str, str]:
        directory = self._directory
        in_place = directory is not None and self._memory.directory_line() == directory.line
        if directory is None or not in_place or not self._memory.holds(directory):
            return dict.fromkeys(self._programmed, "the directory in the datapath is not what was written")
        found = {}
        for rdid in domain_ids:
            each = self._programmed.get(rdid)
            if each is not None and self._memory.table_line(each.number) != each.placed.line:
                found[rdid] = "the datapath uses another table than the one programmed"
            elif each is not None and not self._memory.holds(each.placed):
                found[rdid] = "the table in the datapath is not what was written"
        return found

    def numbers(self) -> dict[str, int]:
        """Return the number of each programmed domain, as counters and captures have it."""
        with self._lock:
            return {rdid: each.number for rdid, each in self._programmed.items()}

    def unresolved(self) -> list[str]:
        """Return the provider addresses that Linux knows no way to, or no neighbour for."""
        with self._lock:
            return self._endpoints.unresolved()

    def used_lines(self) -> tuple[int, int]:
        """Return how many lines of table memory are in use, and how many there are."""
        with self._lock:
            return self._memory.used_lines()

    def forget_moves(self) -> None:
        """Stop admitting the addresses that machines moved away from earlier. To be called now and then."""
        with self._lock:
            for each in list(self._programmed.values()):
                if each.moving and each.domain is not None:
                    each.moving = frozenset()
                    self._commit([self._prepare(each.domain)], [])

    def _apply(self, policy: Policy, changed: Collection[str]) -> dict[str, str]:
        with self._lock:
            self._siblings = siblings_of(policy.hosts)
            errors: dict[str, str] = {}
            prepared: list[_Prepared] = []
            for domain in policy.routing_domains:
                if domain.id in changed:
                    try:
                        prepared.append(self._prepare(domain))
                    except CapacityError as error:
                        errors[domain.id] = str(error)
            known = {domain.id for domain in policy.routing_domains}
            removed = [rdid for rdid in changed if rdid not in known and rdid in self._programmed]
            self._reject_conflicts(prepared, removed, errors)
            self._commit(prepared, removed)
            return errors | self._verify(changed)

    def _prepare(self, domain: RoutingDomain) -> _Prepared:
        """Compile a domain and write it beside what packets meet. Raises CapacityError."""
        old = self._programmed.get(domain.id)
        lists = self._compile_lists(domain, old)
        moving = (old.moving if old else frozenset()) | moved_from(old.domain if old else None, domain)
        sources = admitted((record.provider_address for record in domain.lookup_records), self._siblings, moving)
        holdings = holdings_of(domain, self._vlans, sources)
        generation = _generation(domain, old)
        around = Surroundings(
            layout=self._layout,
            router_mac=self._router_mac(),
            endpoint=self._endpoints.number,
            port=self._external_port,
            port_vlans=self._vlans,
            lists={name: block for name, (_, block) in lists.items()},
            generation=generation,
            admitted=sources,
            own_addresses=frozenset(self._configuration.provider_addresses()),
        )
        block = compile_domain(domain, around)
        if old is not None and len(block) == len(old.placed.block) and bool((block == old.placed.block).all()):
            return _Prepared(domain, old.number, old.placed, holdings, generation, moving, lists)
        if old is not None and old.domain is None:  # nobody knows whether the lists are what its flows were allowed by
            generation = _following(old.generation)
            block = compile_domain(domain, replace(around, generation=generation))
        number = old.number if old else self._memory.take_number()
        if any(each.applies_to for each in domain.access_control_lists):
            self._memory.make_room_for_connections(number)
        placed = self._memory.place(block)
        if old is None:
            # Takes the number before the next domain asks for one; no packet finds it before the directory says so.
            self._memory.switch(number, domain.id, placed)
            self._programmed[domain.id] = _Programmed(number, placed)
        return _Prepared(domain, number, placed, holdings, generation, moving, lists)

    def _compile_lists(
        self, domain: RoutingDomain, old: _Programmed | None
    ) -> dict[str, tuple[AccessControlList, Bytes]]:
        known = old.lists if old else {}
        found = {}
        for each in domain.access_control_lists:
            entry = known.get(each.name)
            unchanged = entry is not None and (entry[0] is each or entry[0] == each)
            found[each.name] = entry if entry and unchanged else (each, compile_access_list(each, self._layout))
        return found

    def _reject_conflicts(self, prepared: list[_Prepared], removed: Iterable[str], errors: dict[str, str]) -> None:
        """A domain that could not be programmed holds on to its entries; no other may get them."""
        new = {each.domain.id for each in prepared}
        held = {
            rdid: each.holdings
            for rdid, each in self._programmed.items()
            if rdid not in new and rdid not in set(removed)
        }
        for each in list(prepared):
            why = conflict(each.holdings, held)
            if why:
                errors[each.domain.id] = why
                prepared.remove(each)
                current = self._programmed[each.domain.id].placed
                if each.placed is not current:
                    self._memory.retire(each.placed)

    def _commit(self, prepared: list[_Prepared], removed: list[str]) -> None:
        before = {rdid: self._programmed[rdid].holdings for rdid in (*(each.domain.id for each in prepared), *removed)}
        after = {each.domain.id: each.holdings for each in prepared}
        directory_changes = self._needs_directory(before, after)
        if directory_changes:
            # Of a domain that another daemon left it is only known what it is to hold.
            old = {
                rdid: after.get(rdid, NOTHING) if self._programmed[rdid].domain is None else held
                for rdid, held in before.items()
            }
            self._publish(self._holdings() | between(old, after))
        for each in prepared:
            self._switch(each)
        if directory_changes:
            self._publish({rdid: held for rdid, held in self._holdings().items() if rdid not in removed})
        for rdid in removed:
            gone = self._programmed.pop(rdid)
            self._memory.withdraw(gone.number)
            self._memory.retire(gone.placed)
        self._memory.reclaim()
        if any(before[rdid].endpoints != after.get(rdid, NOTHING).endpoints for rdid in before):
            self._forget_unused()

    def _needs_directory(self, before: Mapping[str, Holdings], after: Mapping[str, Holdings]) -> bool:
        """Tell whether packets must be told apart anew, or come from hosts that had no number.

        A host that no domain admits any more may stay in the directory until the next one.
        """
        if self._directory is None or any(
            before.get(rdid, NOTHING).unshared() != after.get(rdid, NOTHING).unshared()
            for rdid in before.keys() | after.keys()
        ):
            return True
        return any(not held.sources <= self._hosts for held in after.values())

    def _switch(self, new: _Prepared) -> None:
        old = self._programmed[new.domain.id]
        if new.generation != old.generation:
            self._memory.forget_connections_of(new.number, new.generation)
        self._memory.switch(new.number, new.domain.id, new.placed)
        if old.placed is not new.placed:
            self._memory.retire(old.placed)
        self._programmed[new.domain.id] = _Programmed(
            new.number, new.placed, new.holdings, new.domain, new.generation, new.moving, new.lists
        )

    def _forget_unused(self) -> None:
        used_endpoints: set[tuple[str, str]] = set()
        for each in self._programmed.values():
            if each.domain is None:
                return  # not yet compared: its endpoints are not known
            used_endpoints |= each.holdings.endpoints
        used_endpoints |= {(address, "source") for address in self._hosts}
        self._endpoints.retain(used_endpoints)
        if self._underlay is not None:
            self._underlay.want(self._endpoints.addresses())

    def _holdings(self) -> dict[str, Holdings]:
        return {rdid: each.holdings for rdid, each in self._programmed.items()}

    def _publish(self, holdings: Mapping[str, Holdings]) -> None:
        """Write and name a new directory, and wait until no packet is in the old one."""
        directory = directory_of(holdings, self.numbers(), self._configuration, self._port_facts, self._host_number)
        block = compile_directory(directory, self._layout)
        self._hosts = frozenset(address for address, _ in directory.hosts)
        old = self._directory
        if old is not None and len(old.block) == len(block) and bool((old.block == block).all()):
            return
        self._directory = self._memory.place(block)
        self._memory.publish_directory(self._directory)
        self._memory.retire(old)
        grace()

    def _port_facts(self, interface: str, vlan: int) -> tuple[int, int]:
        return self._ports.of_interface(interface, vlan), self._ports.interface_index(interface)

    def _host_number(self, address: str) -> int:
        return self._endpoints.number(address, "source")

    def _external_port(self, port: PortName) -> int:
        number = self._ports.of_interface(self._interfaces[port[0]], port[1])
        self._ports.make_external(number)
        return number

    def _router_mac(self) -> bytes:
        return mac_bytes(self._configuration.router_mac)


def _generation(domain: RoutingDomain, old: _Programmed | None) -> int:
    """The number of these access lists: another one where they may not be what the flows were allowed by."""
    if old is None:
        return 1
    same = old.domain is None or (
        old.domain.access_control_lists == domain.access_control_lists
        and old.domain.virtual_subnets == domain.virtual_subnets
    )
    return old.generation if same else _following(old.generation)


def _following(generation: int) -> int:
    return generation % GENERATIONS + 1
