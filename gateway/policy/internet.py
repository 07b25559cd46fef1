"""The Internet as a routing domain: what the external ports that have addresses lead to, and where public ones lie."""

from collections.abc import Iterable

from gateway.configuration import Port
from gateway.policy.addresses import family, network_of
from gateway.policy.model import ConnectionRoute, NetworkConnection, RoutingDomain

INTERNET = "00000000-0000-0000-0000-000000000000"
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def internet_domain(ports: Iterable[Port]) -> RoutingDomain | None:
    """Return the domain of these external ports with addresses, None if there are none."""
    connections = tuple(_connection(port) for port in ports if port.role == "external" and port.addresses)
    return RoutingDomain(id=INTERNET, name="internet", network_connections=connections) if connections else None


def _connection(port: Port) -> NetworkConnection:
    networks = dict.fromkeys(map(network_of, port.addresses))
    on_link = tuple(ConnectionRoute(network) for network in networks)
    defaults = tuple(ConnectionRoute(_ANYWHERE[family(gateway)], gateway) for gateway in port.gateways)
    return NetworkConnection(port.name, port.name, port.addresses, routes=(*on_link, *defaults))
