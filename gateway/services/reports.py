"""Pools and tunnels of a domain as they are told of: pure functions."""

from collections.abc import Iterable, Iterator, Mapping

from gateway.api.services import DomainServices, Member, Pool
from gateway.policy.connections import IpsecConnection
from gateway.policy.model import RoutingDomain
from lb.health import MemberHealth
from lb.pools import Choice, PoolState
from vpn.status import ConnectionStatus, EndpointStatus, State


def of_domain(
    domain: RoutingDomain,
    states: Mapping[Choice, PoolState],
    health: Mapping[Choice, Iterable[MemberHealth]],
    endpoint: EndpointStatus | None,
    fault: str | None,
    fragments_fault: str | None,
) -> DomainServices:
    """Join what policy wants with what was found; the faults are those of the compartments."""
    pools = tuple(
        Pool(choice.load_balancer, choice.pool, choice.probe, tuple(_members(state, health.get(choice, ()))))
        for choice, state in states.items()
    )
    known = {status.name: status for status in endpoint.connections} if endpoint else {}
    why = fault or (endpoint.fault if endpoint else None)
    tunnels = tuple(known.get(one.name) or _unattended(one, why) for one in domain.ipsec_connections())
    return DomainServices(pools, tunnels, why or fragments_fault)


def _members(state: PoolState, health: Iterable[MemberHealth]) -> Iterator[Member]:
    found = {one.customer_address: one for one in health}
    for member in state.members:
        one = found.get(member.customer_address)
        told = (one.status.value, one.since, one.reason, one.latest) if one else ()
        yield Member(member.customer_address, member.weight, member.state, *told)


def _unattended(connection: IpsecConnection, fault: str | None) -> ConnectionStatus:
    state: State
    if not connection.enabled:
        state, text = "disabled", "disabled in policy"
    elif fault:
        state, text = "failed", f"not connected: {fault}"
    else:
        state, text = "connecting", "connecting: its endpoint is being set up"
    return ConnectionStatus(
        name=connection.name,
        state=state,
        text=text,
        remote_address=connection.remote_address,
        local_address=connection.local_address,
    )
