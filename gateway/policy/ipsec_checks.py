"""IPsec connections of one domain: pointers are relative to the domain.

That a pair of local and remote address is one connection's alone is checked in `claims`.
"""

from collections.abc import Iterator, Mapping

from gateway.configuration import Port
from gateway.policy.addresses import address_range, family, ordinal, why_not_routable
from gateway.policy.bounds import bound_faults
from gateway.policy.certificates import certificate_faults
from gateway.policy.claims import Claims
from gateway.policy.connections import CertificateAuthentication, EspProposal, IpsecConnection, TrafficSelectors
from gateway.policy.faults import Fault
from gateway.policy.frontend_checks import frontends
from gateway.policy.model import RoutingDomain
from gateway.policy.public import default_local_address, public_address_faults
from gateway.policy.route_checks import PrefixSet, route_faults

LEAST_PSK_CHARACTERS = 8
ANY = ("0.0.0.0/0", "::/0")
_NOTHING_HELD = "*** stands for what is held already, and nothing is held of this connection: give it in full"


def local_end_faults(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[Fault]:
    """Ends of tunnels that the external ports do not lead to."""
    for pointer, connection in _tunnels(domain):
        local, at = connection.local_address, f"{pointer}/local_address"
        if local is not None:
            yield from public_address_faults(local, ports, at)
        elif default_local_address(connection.remote_address, ports) is None:
            number = family(connection.remote_address)
            detail = f"is missing: there is not exactly one external port with an IPv{number} address of its own"
            yield Fault(at, f"{detail}: give the gateway's end of the tunnel")


def remote_end_faults(domain: RoutingDomain, claims: Claims) -> Iterator[Fault]:
    """Other ends that no tunnel can lead to."""
    tunnels = list(_tunnels(domain))
    if not tunnels:
        return
    inside = PrefixSet(prefix for subnet in domain.virtual_subnets for prefix in subnet.prefixes)
    hosts = {record.provider_address for record in domain.lookup_records}
    public = {frontend.address for _, frontend in frontends(domain)} | {one.address for one in domain.public_addresses}
    for at, connection in tunnels:
        local, remote, pointer = connection.local_address, connection.remote_address, f"{at}/remote_address"
        if kind := why_not_routable(remote):
            yield Fault(pointer, f"{remote} is never routed: {kind}")
        if inside.hold(f"{remote}/{128 if family(remote) == 6 else 32}"):
            yield Fault(pointer, f"{remote} is in a virtual subnet of this routing domain, which the tunnel leads to")
        if remote in hosts or claims.is_provider_address(remote):
            yield Fault(pointer, f"{remote} is a provider address: no tunnel may lead into the provider network")
        if remote == local or remote in public or claims.is_own_address(remote):
            yield Fault(pointer, f"{remote} is an address of this gateway: give that of the other end")
        if local is not None and family(local) != family(remote):
            yield Fault(f"{at}/local_address", f"{local} and {remote} are of different IP families")


def ipsec_faults(domain: RoutingDomain, held: RoutingDomain | None) -> Iterator[Fault]:
    """Credentials, selectors, routes and suites of the domain's tunnels.

    Credentials that `held`, the domain as it is, has at the same connection are not looked at again: a certificate that
    expired meanwhile must not keep the domain from being changed.
    """
    before = {one.name: one.authentication for one in held.ipsec_connections()} if held else {}
    prefixes = [prefix for subnet in domain.virtual_subnets for prefix in subnet.prefixes]
    reached = PrefixSet([*prefixes, *(route.prefix for route in domain.customer_routes)])
    for at, connection in _tunnels(domain):
        yield from bound_faults(connection, at)
        if before.get(connection.name) != connection.authentication:
            yield from _credential_faults(connection, f"{at}/authentication")
        if connection.traffic_selectors is not None:
            yield from _selector_faults(connection, connection.traffic_selectors, f"{at}/traffic_selectors", reached)
        yield from _tunnel_route_faults(connection, at)
        yield from _suite_faults(connection.esp, f"{at}/esp")


def _tunnels(domain: RoutingDomain) -> Iterator[tuple[str, IpsecConnection]]:
    for index, connection in enumerate(domain.network_connections):
        if isinstance(connection, IpsecConnection):
            yield f"/network_connections/{index}", connection


def _credential_faults(connection: IpsecConnection, at: str) -> Iterator[Fault]:
    given = connection.authentication
    if isinstance(given, CertificateAuthentication):
        if given.private_key.is_placeholder():
            yield Fault(f"{at}/private_key", _NOTHING_HELD)
        yield from certificate_faults(given, at)
    elif given.secret.is_placeholder():
        yield Fault(f"{at}/secret", _NOTHING_HELD)
    elif len(given.secret) < LEAST_PSK_CHARACTERS:
        detail = f"has {len(given.secret)} characters: a pre-shared key needs at least {LEAST_PSK_CHARACTERS}"
        yield Fault(f"{at}/secret", detail)


def _selector_faults(
    connection: IpsecConnection, selectors: TrafficSelectors, at: str, reached: PrefixSet
) -> Iterator[Fault]:
    for field in ("local", "remote"):
        if not getattr(selectors, field):
            yield Fault(f"{at}/{field}", "needs at least one prefix; 0.0.0.0/0 and ::/0 are any", absence=True)
    for number, prefix in enumerate(selectors.local):
        if prefix not in ANY and not reached.hold(prefix):
            detail = f"{prefix} is in no prefix of this routing domain's virtual subnets and customer routes"
            yield Fault(f"{at}/local/{number}", detail, absence=True)
    for number, prefix in enumerate(selectors.remote):
        yield from _remote_prefix_faults(connection, prefix, f"{at}/remote/{number}")
    ends = [{family(prefix) for prefix in end} for end in (selectors.local, selectors.remote)]
    if all(ends) and ends[0] != ends[1]:
        detail = "local and remote are of different IP families: give prefixes of the same families at both ends"
        yield Fault(f"{at}/remote", detail)


def _remote_prefix_faults(connection: IpsecConnection, prefix: str, pointer: str) -> Iterator[Fault]:
    """A prefix behind the other end does not hold the other end itself; the default route may."""
    network, remote = address_range(prefix), connection.remote_address
    if kind := why_not_routable(prefix):
        yield Fault(pointer, f"{prefix} is never routed: {kind}")
    if prefix not in ANY and network.first <= ordinal(remote) <= network.last:
        detail = f"{prefix} holds remote_address {remote}: the tunnel would lead through itself; take smaller prefixes"
        yield Fault(pointer, detail)


def _tunnel_route_faults(connection: IpsecConnection, at: str) -> Iterator[Fault]:
    selectors = connection.traffic_selectors
    if not connection.reached():
        yield Fault(f"{at}/routes", "needs at least one route, or traffic_selectors with a remote prefix", absence=True)
    carried = PrefixSet(selectors.remote) if selectors and selectors.remote else None
    for number, route in enumerate(connection.routes):
        pointer = f"{at}/routes/{number}"
        yield from route_faults(route, pointer)
        if not why_not_routable(route.prefix):
            yield from _remote_prefix_faults(connection, route.prefix, f"{pointer}/prefix")
        if route.next_hop is not None:
            yield Fault(f"{pointer}/next_hop", "a tunnel has one other end: remove next_hop")
        if carried and not carried.hold(route.prefix):
            detail = f"{route.prefix} is in no prefix of traffic_selectors/remote: the tunnel would not carry it"
            yield Fault(f"{pointer}/prefix", detail, absence=True)


def _suite_faults(esp: EspProposal, at: str) -> Iterator[Fault]:
    if "gcm" in esp.encryption and esp.integrity is not None:
        yield Fault(f"{at}/integrity", f"{esp.encryption} has an integrity check of its own: remove integrity")
    if "gcm" not in esp.encryption and esp.integrity is None:
        detail = f"is missing: {esp.encryption} needs an integrity check: add sha256, or encrypt with aes128gcm16"
        yield Fault(f"{at}/integrity", detail)
