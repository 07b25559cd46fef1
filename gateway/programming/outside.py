"""What the Internet's domain has of tenants' policy: public addresses, and the ends of tunnels. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.compartments.specification import Compartment, Leg
from gateway.configuration import Port
from gateway.policy.internet import internet_domain
from gateway.policy.model import RoutingDomain
from gateway.policy.public import default_local_address
from gateway.programming.holdings import Holdings
from gateway.programming.planned_services import Plan, PlannedFrontend, Target
from gateway.programming.routes import Inside, Neighbour, PortName, connection_port

Steering: TypeAlias = Mapping[str, Mapping[str, Neighbour]]  # own address -> peer
Public: TypeAlias = Mapping[tuple[str, Target], int]
WHOLE = 0xFFFF


@dataclass(frozen=True, slots=True)
class Outside:
    """All that the Internet's table is made of. `legs`: ports of compartments that lead there.

    `public`: the blocks of ports that lead from an address to a frontend, `WHOLE` if all of the address does.
    """

    domain: RoutingDomain | None = None
    public: Public = field(default_factory=dict)
    steering: Steering = field(default_factory=dict)
    legs: tuple[PortName, ...] = ()


def internet_of(domains: Iterable[RoutingDomain], ports: Mapping[str, Port]) -> RoutingDomain | None:
    """Return the domain of the external ports with addresses that no tenant's connection uses."""
    vlans = {port.name: port.vlan for port in ports.values()}
    used = {connection_port(connection, vlans) for domain in domains for connection in domain.l3_connections()}
    return internet_domain(port for port in ports.values() if (port.name, port.vlan) not in used)


def legs_of(compartment: Compartment) -> tuple[Leg, ...]:
    """Return the legs of a compartment."""
    return tuple(leg for leg in (compartment.inside, compartment.outside) if leg is not None)


def port_of_leg(leg: Leg) -> PortName:
    """Return the name under which a compartment's leg is a port."""
    return f"leg {leg.interface}", 0


def inside_of(compartment: Compartment | None) -> Inside | None:
    """Return the way into a compartment."""
    if compartment is None:
        return None
    return Inside(port_of_leg(compartment.inside), compartment.inside.mac, compartment.specification.inside_addresses)


def neighbour_at(compartment: Compartment | None) -> Neighbour | None:
    """Return the other end of the leg of a compartment that has but one."""
    return (port_of_leg(compartment.inside), compartment.inside.mac) if compartment else None


def public_addresses(holdings: Mapping[int, Holdings]) -> dict[tuple[str, Target], int]:
    """Return whose the public addresses are, from what domains hold by their numbers."""
    return {
        (address, (number, frontend)): blocks or WHOLE
        for number, held in holdings.items()
        for address, frontend, blocks in held.public
    }


def kept_addresses(before: Public, after: Public) -> dict[tuple[str, Target], int]:
    """Return what leads where it led before."""
    return {key: blocks & before[key] for key, blocks in after.items() if blocks & before.get(key, 0)}


def targets_of(public: Public) -> dict[str, list[tuple[Target, int]]]:
    """Return where each address leads."""
    found: dict[str, list[tuple[Target, int]]] = {}
    for (address, target), blocks in public.items():
        found.setdefault(address, []).append((target, blocks))
    return found


def steering_of(
    domains: Iterable[RoutingDomain], compartments: Mapping[str, Compartment], ports: Mapping[str, Port]
) -> dict[str, dict[str, Neighbour]]:
    """Return to which compartment the peers of tunnels belong."""
    found: dict[str, dict[str, Neighbour]] = {}
    for domain in domains:
        compartment = compartments.get(domain.id)
        outside = compartment.outside if compartment else None
        if outside is None:
            continue
        for connection in domain.ipsec_connections():
            own = connection.local_address or default_local_address(connection.remote_address, ports)
            if own is not None and connection.enabled:
                found.setdefault(own, {})[connection.remote_address] = (port_of_leg(outside), outside.mac)
    return found


def internet_plan(outside: Outside, own: Iterable[str], port: Callable[[PortName], int]) -> Plan:
    """Make frontends of the ends of tunnels, and of addresses that domains share; `own`: the router's addresses."""
    routers, steering = frozenset(own), outside.steering
    ends = [
        PlannedFrontend(
            number,
            address,
            peers={peer: (port(name), mac) for peer, (name, mac) in steering[address].items()},
            own=address in routers,
        )
        for number, address in enumerate(sorted(steering))
    ]
    shared = {address: targets for address, targets in targets_of(outside.public).items() if len(targets) > 1}
    lent = [
        PlannedFrontend(number, address, lenders=_by_block(shared[address]))
        for number, address in enumerate(sorted(shared), len(ends))
    ]
    return Plan((*ends, *lent))


def _by_block(targets: Iterable[tuple[Target, int]]) -> dict[int, Target]:
    return {block: target for target, blocks in targets for block in range(1, 16) if blocks >> block & 1}
