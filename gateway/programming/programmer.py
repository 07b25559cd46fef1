"""Makes the datapath hold a policy: compile, write beside the old, switch one word a domain, read back."""

import threading
import time
from collections.abc import Collection, Iterable, Mapping

from gateway.compartments.specification import Compartment, key_for_fragments
from gateway.configuration import GatewayConfiguration
from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import BpfError
from gateway.datapath.loader import Datapath
from gateway.policy.internet import INTERNET
from gateway.policy.model import Policy, RoutingDomain
from gateway.programming.admission import Siblings, siblings_of
from gateway.programming.adopted import adopt, inherit
from gateway.programming.block import CapacityError
from gateway.programming.choices import Choices, States
from gateway.programming.committing import Committing
from gateway.programming.endpoints import Endpoints
from gateway.programming.holdings import NOTHING, Holdings, conflict
from gateway.programming.internet_table import Change, InternetTable
from gateway.programming.memory import Memory
from gateway.programming.neighbours import Neighbours
from gateway.programming.next_hops import find, next_hops
from gateway.programming.outside import (
    Outside,
    inside_of,
    internet_of,
    legs_of,
    neighbour_at,
    port_of_leg,
    public_addresses,
    steering_of,
)
from gateway.programming.places import Places
from gateway.programming.ports import Ports
from gateway.programming.preparation import Around, Preparation
from gateway.programming.programmed import Prepared
from gateway.programming.published_directory import PublishedDirectory
from gateway.programming.widening import Widening
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from gateway.underlay.underlay import Underlay
from lb.pools import Choice


class Programmer:
    """The one writer of the datapath's memory. All methods may be called from any thread."""

    def __init__(
        self,
        datapath: Datapath,
        layout: Layout,
        configuration: GatewayConfiguration,
        predecessor: Datapath | None = None,
    ) -> None:
        """`predecessor`: the version that forwards until this one, with the connections of that one, takes over.

        `left_behind` names the routing domains that the datapath held before this daemon began.
        """
        self._lock = threading.RLock()
        self._configured_ports = configuration.ports_by_name()
        self._memory = Memory(datapath, layout)
        self._choices = Choices(self._memory, layout)
        self._ports = Ports(datapath, layout, configuration.provider_links())
        self._neighbours = Neighbours(self._ports)
        self._widening = Widening(self._memory.regions, configuration.datapath.connections_per_domain)
        self._endpoints = Endpoints(datapath.maps["endpoints"], layout, self._ports)
        self._places = Places(self._ports, self._endpoints, configuration)
        inherited = inherit(predecessor)
        self._preparation = Preparation(self._memory, self._choices, self._places, layout, configuration, inherited)
        directory, adopted = adopt(self._memory, layout)
        self.left_behind = frozenset(adopted.keys() | inherited.keys()) - {INTERNET}
        self._directory = PublishedDirectory(self._memory, self._places, layout, configuration, directory)
        self._committing = Committing(self._memory, self._choices, self._directory, adopted)
        self._internet = InternetTable(self._preparation, self._places)
        self._internet_domain: RoutingDomain | None = None
        self._underlay: Underlay | None = None
        self._siblings: Siblings = {}
        self._states: dict[str, States] = {}
        self._compartments: dict[str, Compartment] = {}
        self._policy_is_known = False

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
            refused = self._attach({name for name, link in changes.items() if link is not None})
            self._committing.publish()
            return refused

    def apply(self, policy: Policy) -> dict[str, str]:
        """Make the datapath hold exactly this policy; {RDID: why} for domains whose old state stays."""
        with self._lock:
            known = {domain.id for domain in policy.routing_domains}
            self._memory.forget_all_but(known | {INTERNET})
            return self._apply(policy, (known | set(self._committing.programmed)) - {INTERNET})

    def apply_domain(self, policy: Policy, domain_id: str) -> dict[str, str]:
        """The same where only this domain was added, changed or deleted since."""
        return self._apply(policy, {domain_id})

    def health_changed(self, domain_id: str, states: States) -> dict[str, str]:
        """Take the states of a domain's pools from here from now on; {RDID: why} if its old ones stay.

        Of what is programmed only the choices that differ are touched.
        """
        with self._lock:
            self._states[domain_id] = dict(states)
            each = self._committing.programmed.get(domain_id)
            if each is None or each.domain is None:
                return {}
            try:
                self._committing.change_states(domain_id, states)
            except CapacityError as error:
                return {domain_id: str(error)}
            return {}

    def members_down(self) -> dict[str, dict[Choice, frozenset[str]]]:
        """Return the members that the datapath takes to be down, by RDID and choice, as far as policy was compared."""
        with self._lock:
            return {
                rdid: {
                    chooser: held.down
                    for chooser, held in each.choices.items()
                    if isinstance(chooser, Choice) and held.down
                }
                for rdid, each in self._committing.programmed.items()
            }

    def compartments_changed(self, compartments: Mapping[str, Compartment]) -> dict[str, str]:
        """Make these, by key, all compartments that packets can go to; {RDID: why} for domains whose old state stays.

        Those that are gone must stand until this returns.
        """
        with self._lock:
            before, self._compartments = self._compartments, dict(compartments)
            refused = self._attach(self._places.take_legs(compartments.values()))
            errors = {
                each.specification.routing_domain: refused[leg.interface]
                for each in compartments.values()
                for leg in legs_of(each)
                if leg.interface in refused
            }
            if not self._policy_is_known:
                return errors
            changed = {
                each.specification.routing_domain
                for each in (*before.values(), *compartments.values())
                if before.get(each.specification.key) != compartments.get(each.specification.key)
            }
            errors |= self._make([domain for domain in self._committing.domains() if domain.id in changed], [])
            self._forget_legs()
            return errors

    def find_peers(self, seconds: float) -> None:
        """Let the datapath learn the next hops to the peers of tunnels that it does not know, in so many seconds."""
        with self._lock:
            if self._internet_domain is None:
                return
            steering = steering_of(self._committing.domains(), self._compartments, self._configured_ports)
            vlans = {port.name: port.vlan for port in self._configured_ports.values()}
            found = next_hops(self._internet_domain, vlans, frozenset().union(*steering.values()))
            numbers = {hop: self._places.port(hop.port) for hop in found}
        find(self._ports, numbers, seconds)

    def keep_neighbours(self) -> None:
        """Ask whether silent neighbours on external ports are still there. To be called every second."""
        with self._lock:
            connections = self._places.connections(self._committing.domains())
        self._neighbours.keep(connections, time.monotonic())

    def widen_connections(self) -> None:
        """Give domains larger regions whose connections fill theirs. To be called every second, while packets come."""
        with self._lock:
            self._widening.look(self._committing.numbers())

    def verify(self) -> dict[str, str]:
        """Read the maps back: {RDID: what differs from what was programmed}."""
        with self._lock:
            return self._committing.faults(self._committing.programmed)

    def numbers(self) -> dict[str, int]:
        """Return the number of each programmed domain, as counters and captures have it."""
        with self._lock:
            return self._committing.numbers()

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
            if moved := self._committing.forget_moves():
                self._make(moved, [])

    def _apply(self, policy: Policy, changed: Collection[str]) -> dict[str, str]:
        with self._lock:
            self._policy_is_known = True
            self._siblings = siblings_of(policy.hosts)
            self._internet_domain = internet_of(policy.routing_domains, self._configured_ports)
            known = {domain.id for domain in policy.routing_domains}
            removed = [rdid for rdid in changed if rdid not in known and rdid in self._committing.programmed]
            errors = self._make([domain for domain in policy.routing_domains if domain.id in changed], removed)
            self._forget_legs()
            return errors | self._committing.faults([*changed, INTERNET])

    def _make(self, domains: Iterable[RoutingDomain], removed: list[str]) -> dict[str, str]:
        """Program these domains, drop those, and let the Internet's table follow; {RDID: why} as `apply` has it."""
        errors: dict[str, str] = {}
        prepared: list[Prepared] = []
        for domain in domains:
            around = Around(
                self._siblings,
                self._states.get(domain.id, {}),
                inside := inside_of(self._compartments.get(domain.id)),
                neighbour_at(self._compartments.get(key_for_fragments(domain.id))),
                (inside.port,) if inside else (),
            )
            try:
                prepared.append(self._preparation.prepare(domain, self._committing.programmed.get(domain.id), around))
            except CapacityError as error:
                errors[domain.id] = str(error)
        self._reject_conflicts(prepared, removed, errors)
        internet = self._prepare_internet(prepared, removed, errors)
        if internet.final is not None:
            prepared.append(internet.final)
        if internet.outside and internet.outside.domain is None and INTERNET in self._committing.programmed:
            removed = [*removed, INTERNET]
        endpoints_changed = self._committing.commit(prepared, removed, internet.withdrawing)
        self._internet.committed(internet)
        for rdid in removed:
            self._states.pop(rdid, None)
        if endpoints_changed:
            self._forget_unused()
        return errors

    def _reject_conflicts(self, prepared: list[Prepared], removed: Iterable[str], errors: dict[str, str]) -> None:
        """A domain that could not be programmed holds on to its entries; no other may get them."""
        held = self._others_holdings({each.rdid for each in prepared} | {*removed, INTERNET})
        for each in list(prepared):
            why = conflict(each.result.holdings, held)
            if why:
                self._refuse(each, prepared, errors, why)

    def _refuse(self, each: Prepared, prepared: list[Prepared], errors: dict[str, str], why: str) -> None:
        errors[each.rdid] = why
        prepared.remove(each)
        self._preparation.discard(each, self._committing.programmed.get(each.rdid))

    def _prepare_internet(self, prepared: list[Prepared], removed: Iterable[str], errors: dict[str, str]) -> Change:
        """Write the Internet's table as it is to be. If it cannot be, no public address comes, goes or moves."""
        old = self._committing.programmed.get(INTERNET)
        before = public_addresses({each.number: each.holdings for each in self._committing.programmed.values()})
        try:
            change = self._internet.change_to(self._outside(prepared, removed), old, before)
        except CapacityError as error:
            why = str(error)
        else:
            others = self._others_holdings({each.rdid for each in prepared} | {*removed, INTERNET})
            others |= {each.rdid: each.result.holdings for each in prepared}
            found = conflict(change.final.result.holdings, others) if change.final else None
            if found is None:
                return change
            why = found
            self._internet.discard(change, old)
        errors[INTERNET] = why
        held = self._committing.holdings()
        for each in list(prepared):
            if each.result.holdings.public != held.get(each.rdid, NOTHING).public:
                self._refuse(each, prepared, errors, f"the table of public addresses cannot be changed: {why}")
        return Change()

    def _outside(self, prepared: Iterable[Prepared], removed: Iterable[str]) -> Outside:
        left_out = {*removed, INTERNET}
        after = {rdid: each for rdid, each in self._committing.programmed.items() if rdid not in left_out}
        after |= {each.rdid: each.result for each in prepared}
        legs = (each.outside for each in self._compartments.values())
        domains = [each.domain for each in after.values() if each.domain is not None]
        return Outside(
            self._internet_domain,
            public_addresses({each.number: each.holdings for each in after.values()}),
            steering_of(domains, self._compartments, self._configured_ports),
            tuple(sorted(port_of_leg(leg) for leg in legs if leg is not None)),
        )

    def _others_holdings(self, rdids: Collection[str]) -> dict[str, Holdings]:
        return {rdid: held for rdid, held in self._committing.holdings().items() if rdid not in rdids}

    def _attach(self, interfaces: Collection[str]) -> dict[str, str]:
        """Let the datapath take these interfaces' packets, where they are ports; {interface: why it refuses}."""
        refused = {}
        for interface in dict.fromkeys(self._places.interfaces().values()):
            if interface in interfaces:
                try:
                    self._ports.attach(interface)
                except BpfError as error:
                    refused[interface] = str(error)
        return refused

    def _forget_legs(self) -> None:
        """Forget the compartments' ends that are gone and that nothing in the datapath names any more."""
        standing = {port_of_leg(leg) for each in self._compartments.values() for leg in legs_of(each)}
        held = {port for holdings in self._committing.holdings().values() for port in holdings.ports}
        self._places.forget_legs({name for name, _ in standing | held})

    def _forget_unused(self) -> None:
        used = self._committing.endpoints_in_use()
        if used is None:
            return
        self._endpoints.retain(used | {(address, "source") for address in self._directory.hosts})
        if self._underlay is not None:
            self._underlay.want(self._endpoints.addresses())
