"""What the placeholder of a secret stands for: the secret of the same connection as it is held."""

from dataclasses import replace

from gateway.policy.connections import CertificateAuthentication, IpsecConnection, PskAuthentication
from gateway.policy.model import RoutingDomain


def with_held_secrets(domain: RoutingDomain, held: RoutingDomain | None) -> RoutingDomain:
    """Return the domain with the secrets that `held`, the domain as it is, has at connections of the same name.

    A placeholder that stands for nothing is left, and is a fault of the domain.
    """
    before = {one.name: one for one in held.ipsec_connections()} if held else {}
    if not before:
        return domain
    connections = tuple(
        _completed(one, before[one.name]) if isinstance(one, IpsecConnection) and one.name in before else one
        for one in domain.network_connections
    )
    return domain if connections == domain.network_connections else replace(domain, network_connections=connections)


def _completed(connection: IpsecConnection, before: IpsecConnection) -> IpsecConnection:
    given, held = connection.authentication, before.authentication
    match given, held:
        case PskAuthentication(), PskAuthentication() if given.secret.is_placeholder():
            return replace(connection, authentication=replace(given, secret=held.secret))
        case CertificateAuthentication(), CertificateAuthentication() if given.private_key.is_placeholder():
            return replace(connection, authentication=replace(given, private_key=held.private_key))
    return connection
