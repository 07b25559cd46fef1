"""All that a compartment's namespace needs besides the daemon: devices, routes, MSS, rates."""

import errno
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from pyroute2 import IPRoute  # type: ignore[import-untyped]

from gateway.compartments.entering import run_in
from vpn import anchors, firewall, routing, shaping
from vpn.specification import EndpointSpecification, Tunnel, interface_number
from vpn.suites import TUN_MTU, overhead

TUN = "ipsec0"  # libipsec makes it, one for all tunnels
_IPV6_LEAST_MTU = 1280  # RFC 8200 section 5: what is below is the outer packet's to fragment


@dataclass(frozen=True, slots=True)
class Laid:
    """A tunnel's place in the namespace; `mtu` is its largest inner packet in bytes."""

    tunnel: Tunnel
    device: str
    mtu: int
    rate_class: int


def learned_path_mtus(specification: EndpointSpecification) -> dict[str, int]:
    """Return the MTUs of paths to peers that packets too big have told of, in bytes. Raises OSError, NetlinkError."""
    pairs = [
        (connection.local_address, connection.remote_address)
        for connection in specification.connections
        if connection.enabled and connection.local_address
    ]

    def ask() -> dict[str, int]:
        with IPRoute() as netlink:
            return routing.path_mtus(netlink, pairs)

    return run_in(specification.namespace, ask)


def plan(
    specification: EndpointSpecification,
    tunnels: Mapping[str, Tunnel],
    path_mtus: Mapping[str, int],
    encapsulated: Mapping[str, bool],
    tun: bool,
) -> dict[str, Laid]:
    """Work out each tunnel's device and MTU, by connection name.

    `path_mtus`, by peer, and `encapsulated`, by the tunnel's key, say what is known of them.
    """
    laid = {}
    for rate_class, (name, tunnel) in enumerate(sorted(tunnels.items()), start=1):
        udp = tun or encapsulated.get(tunnel.key, False)
        path_mtu = min(specification.path_mtu, path_mtus.get(tunnel.connection.remote_address, specification.path_mtu))
        mtu = overhead(tunnel.connection.esp, tunnel.outer_version, udp).inner_mtu(path_mtu)
        device = TUN if tun else f"xfrm{interface_number(tunnel.key):x}"
        laid[name] = Laid(tunnel, device, min(mtu, TUN_MTU) if tun else mtu, rate_class)
    return laid


def lay(
    specification: EndpointSpecification, laid: Mapping[str, Laid], carriers: Mapping[str, str | None], tun: bool
) -> None:
    """Bring the namespace to the plan. `carriers`: by prefix the tunnel that carries it, if any may.

    Raises OSError, NetlinkError.
    """
    run_in(specification.namespace, lambda: _lay(specification, laid, carriers, tun))


def _lay(
    specification: EndpointSpecification, by_name: Mapping[str, Laid], carriers: Mapping[str, str | None], tun: bool
) -> None:
    laid = by_name.values()
    with IPRoute() as netlink:
        if not tun:
            _make_xfrm_interfaces(netlink, specification.outside, laid)
        indexes = {link.get("ifname"): link["index"] for link in netlink.get_links()}
        for device in {specification.inside, *(place.device for place in laid)} - indexes.keys():
            raise OSError(errno.ENODEV, f"there is no interface {device}", specification.namespace)
        if tun:
            selectors = [prefix for place in laid for prefix in place.tunnel.local_selectors]
            tunnel = (TUN, routing.BY_INSIDE)
            anchors.set_anchors(netlink, indexes, specification.inside, tunnel, selectors)
        firewall.set_rules(_marked(by_name, carriers))
        for device, by_class in _rates(specification.inside, laid).items():
            shaping.set_rates(netlink, indexes[device], by_class)
        ours = {connection.local_address for connection in specification.connections if connection.local_address}
        ways = {prefix: _way(prefix, by_name[name]) if name else None for prefix, name in carriers.items()}
        routing.set_ways(netlink, indexes, specification.inside, frozenset(ours), ways)


def _mtu(prefix: str, place: Laid) -> int:
    return max(place.mtu, _IPV6_LEAST_MTU) if ip_network(prefix).version == 6 else place.mtu


def _way(prefix: str, place: Laid) -> routing.Way:
    return routing.Way(place.device, _mtu(prefix, place))


def _marked(by_name: Mapping[str, Laid], carriers: Mapping[str, str | None]) -> Iterator[firewall.Marked]:
    """Yield what is behind each tunnel. Behind the TUN device only who carries a prefix can be meant."""
    for name, place in by_name.items():
        connection = place.tunnel.connection
        limited = connection.outbound_kbps or connection.inbound_kbps
        for route in connection.reached():
            if place.device != TUN or carriers[route.prefix] == name:
                mtu = _mtu(route.prefix, place)
                yield firewall.Marked(route.prefix, place.device, mtu, place.rate_class if limited else 0)


def _rates(inside: str, laid: Collection[Laid]) -> dict[str, dict[int, int]]:
    """Return kbit/s by device and class: what enters a tunnel waits at its device, what leaves one at the inside."""
    rates: dict[str, dict[int, int]] = {inside: {}}
    for place in laid:
        connection = place.tunnel.connection
        of_device = rates.setdefault(place.device, {})
        if connection.outbound_kbps:
            of_device[place.rate_class] = connection.outbound_kbps
        if connection.inbound_kbps:
            rates[inside][place.rate_class] = connection.inbound_kbps
    return rates


def _make_xfrm_interfaces(netlink: IPRoute, outside: str, laid: Collection[Laid]) -> None:
    wanted = {place.device: place for place in laid}
    held = {link.get("ifname"): link["index"] for link in netlink.get_links()}
    for name, place in wanted.items():
        if name not in held:
            number = interface_number(place.tunnel.key)
            netlink.link("add", ifname=name, kind="xfrm", xfrm_link=held[outside], xfrm_if_id=number)
        netlink.link("set", ifname=name, mtu=max(place.mtu, _IPV6_LEAST_MTU), state="up")
    for name in held.keys() - wanted.keys():
        if name.startswith("xfrm"):
            netlink.link("del", index=held[name])
