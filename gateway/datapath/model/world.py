"""A gateway with its policy and surroundings, and what becomes of each frame that reaches it."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.compartments.specification import Compartment
from gateway.configuration import Port
from gateway.datapath.model import (
    admission,
    congestion,
    domains,
    ethernet,
    frontends,
    lookup,
    ordering,
    outward,
    sharing,
    steering,
    surroundings,
)
from gateway.datapath.model.compartments import (
    TunnelStates,
    attachments_of_legs,
    interfaces_of_legs,
    legs_for_fragments,
    steering_of,
)
from gateway.datapath.model.course import Course, untranslated
from gateway.datapath.model.ethernet import mac_bytes
from gateway.datapath.model.flow import flow_hash
from gateway.datapath.model.ip import Packet
from gateway.datapath.model.leave import leave, turn
from gateway.datapath.model.passage import Origin, Passage, State
from gateway.datapath.model.routes import Turn
from gateway.datapath.model.surroundings import Interface, Surroundings, UnderlayHop
from gateway.datapath.model.translation import Key, Translation
from gateway.datapath.model.verdict import Action, DecidedError, Step, Verdict
from gateway.policy.model import Policy
from lb.pools import Choice, PoolState

MemberStates = Mapping[str, Mapping[Choice, PoolState]]

__all__ = ["Interface", "UnderlayHop", "World"]


class World:
    """The reference model of the datapath.

    `interfaces` names the interfaces that ports are on; `underlay` says how each provider address is reached (None or
    absent: not resolved); `also_admitted` names further outer sources for a domain, such as the old provider address
    of a VM that moves. `neighbours` maps (interface, VLAN, address) to a MAC, all canonical text; `clock` counts
    seconds. With `assume_neighbours`, a made-up MAC stands for every external neighbour that is not known.
    `member_states` are those of the pools' members, by RDID; of a domain that it leaves out all are healthy.
    `compartments` are those that stand, by key; `tunnels` tells how a domain's tunnel (RDID, name) fares.
    """

    def __init__(
        self,
        policy: Policy,
        ports: tuple[Port, ...],
        router_mac: str,
        interfaces: Mapping[str, Interface],
        underlay: Mapping[str, UnderlayHop | None],
        dscp: str = "uniform",
        also_admitted: Mapping[str, frozenset[str]] | None = None,
        member_states: MemberStates | None = None,
        compartments: Mapping[str, Compartment] | None = None,
        tunnels: TunnelStates | None = None,
    ) -> None:
        self.policy = policy
        self.ports = ports
        self.compartments = compartments or {}
        self._tunnels = tunnels or {}
        self.clock: Callable[[], float] = time.monotonic
        self.assume_neighbours = False
        self._state = State()
        self._surroundings = Surroundings(
            router_mac=mac_bytes(router_mac),
            interfaces={**interfaces, **interfaces_of_legs(self.compartments, router_mac)},
            underlay=surroundings.underlay(underlay),
            dscp=dscp,
            provider_addresses=surroundings.provider_addresses(ports),
            provider_links=surroundings.provider_links(ports),
            fragments_legs=legs_for_fragments(self.compartments),
        )
        self._internet = domains.build_internet(ports)
        self._place(policy, also_admitted or {}, member_states or {})

    def _place(self, policy: Policy, also_admitted: Mapping[str, frozenset[str]], member_states: MemberStates) -> None:
        self.policy = policy
        self.also_admitted = also_admitted
        numbers = self._state.member_numbers
        self._domains = domains.build(policy, self.ports, also_admitted, member_states, numbers, self.compartments)
        everywhere = (self._internet, *self._domains) if self._internet else self._domains
        self._attachments = surroundings.attachments(self.ports, everywhere)
        self._attachments |= attachments_of_legs(self._domains, self._internet, self.compartments)
        self._steering = steering_of(self._domains, self.compartments, self.ports) if self._internet else {}
        self._owners, self._sharers = sharing.owners_of(self._domains)

    @property
    def neighbours(self) -> dict[tuple[str, int, str], str]:
        return self._state.neighbours

    @property
    def translations(self) -> dict[Key, Translation]:
        return self._state.translations.entries

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        return self._surroundings.interfaces

    @property
    def router_mac(self) -> str:
        return ethernet.mac_text(self._surroundings.router_mac)

    @property
    def underlay(self) -> dict[str, UnderlayHop | None]:
        return {str(address): hop for address, hop in self._surroundings.underlay.items()}

    @property
    def dscp(self) -> str:
        return self._surroundings.dscp

    def inside_of(self, name: str, tunnel: str) -> str | None:
        """The interface by which what comes out of a domain's tunnel arrives; None where it ends nowhere now."""
        domain = next((one for one in self._domains if one.source.name == name), None)
        if domain is None or domain.inside is None:
            return None
        is_there = any(one.name == tunnel and one.enabled for one in domain.source.ipsec_connections())
        return domain.inside.exit.connection.interface if is_there else None

    def domain_of(self, vsid: int) -> domains.Domain | None:
        return next((domain for domain in self._domains if vsid in domain.subnets), None)

    def change_policy(
        self,
        policy: Policy,
        also_admitted: Mapping[str, frozenset[str]] | None = None,
        member_states: MemberStates | None = None,
    ) -> None:
        """Put another policy, or other states of members, in place. Neighbours and connections stay.

        Connections of a domain are asked about again only where its access lists or virtual subnets have changed.
        """
        before = {domain.id: domain for domain in self.policy.routing_domains}
        after = {domain.id: domain for domain in policy.routing_domains}
        for domain_id in before.keys() | after.keys():
            old, new = before.get(domain_id), after.get(domain_id)
            if (
                old is None
                or new is None
                or (old.access_control_lists, old.virtual_subnets)
                != (
                    new.access_control_lists,
                    new.virtual_subnets,
                )
            ):
                self._state.connections.lists_changed(domain_id)
        self._place(policy, also_admitted or {}, member_states or {})

    def copy(self) -> "World":
        """The same gateway with neighbours and connections of its own: what it does leaves this one untouched."""
        other = copy.copy(self)
        other._state = copy.deepcopy(self._state)
        return other

    def process(self, interface: str, frame: bytes) -> Verdict:
        """What becomes of a frame that arrives on `interface`, a tag of 802.1Q still in it."""
        parsed = ethernet.parse(frame)
        attachment = self._attachments.get((interface, parsed.vlan)) if parsed else None
        if parsed is None or attachment is None:
            words = "No port is there for this frame: it goes up to Linux untouched."
            return Verdict(Action.PASSED, None, None, None, None, (Step("port", "", words),))
        passage = Passage(
            surroundings=self._surroundings,
            domains=self._domains,
            internet=self._internet,
            owners=self._owners,
            sharers=self._sharers,
            steering=self._steering,
            tunnels=self._tunnels,
            state=self._state,
            assume_neighbours=self.assume_neighbours,
            now=self.clock(),
            interface=self._surroundings.interfaces[interface],
            attachment=attachment,
            frame=parsed,
            steps=[Step("port", attachment.entry, f"It arrives on {interface}, {_vlan_words(parsed.vlan)}.")],
        )
        try:
            decided = _route(passage)
        except DecidedError as error:
            decided = error
        return _verdict(passage, decided)


def _vlan_words(vlan: int) -> str:
    return f"VLAN {vlan}" if vlan else "untagged"


def _route(passage: Passage) -> DecidedError:
    is_ordered = passage.attachment.is_for_fragments
    origin, packet = ordering.admit(passage) if is_ordered else admission.admit(passage)
    if not is_ordered and origin.tunnel is not None:
        packet = replace(packet, traffic_class=congestion.combined(packet.traffic_class, origin.tunnel.traffic_class))
    return _route_admitted(passage, origin, packet)


def _route_admitted(passage: Passage, origin: Origin, packet: Packet) -> DecidedError:
    steered = steering.of_peer(passage, origin, packet)
    if steered is not None:
        course = untranslated(packet, origin.domain)
        return leave(passage, origin, course, steered, flow_hash(packet), is_routed=False)
    origin, course = _course(passage, origin, packet)
    chosen = flow_hash(course.viewed)
    target = lookup.find(passage, origin, course, chosen)
    if isinstance(target, Turn):
        return _route_admitted(passage, *turn(passage, origin, course, target))
    return leave(passage, origin, course, target, chosen)


def _course(passage: Passage, origin: Origin, packet: Packet) -> tuple[Origin, Course]:
    """What is translated of the packet. What comes from the Internet for a domain is the domain's from here on."""
    came_from = origin.domain
    if came_from is passage.internet:
        owner = passage.owners.get(packet.destination) or sharing.lender(passage, origin, packet)
        origin = replace(origin, domain=owner or came_from)
        passage.domain = origin.domain
    services = origin.domain.services
    public = services.public.get(packet.destination)
    if public is not None and came_from is passage.internet:
        return origin, frontends.to_public_address(passage, origin, packet, public)
    frontend = services.frontends.get(packet.destination)
    if frontend is not None and frontend.is_public == (came_from is passage.internet):
        return origin, frontends.to_frontend(passage, origin, packet, frontend)
    course = outward.from_overlay(passage, origin, packet) if origin.tunnel is not None and services else None
    return origin, course or untranslated(packet, origin.domain)


def _verdict(passage: Passage, decided: DecidedError) -> Verdict:
    known = passage.domain if decided.action != Action.PASSED else None
    return Verdict(
        action=decided.action,
        reason=decided.reason,
        domain=known.id if known else None,
        interface=decided.interface,
        frame=decided.frame,
        steps=tuple(passage.steps),
    )
