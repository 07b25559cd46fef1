"""All that a compartment's namespace needs besides the daemon: devices, routes, MSS, rates."""

import errno
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_network

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink import rtnl  # type: ignore[import-untyped]

from gateway.compartments import changes
from gateway.compartments.entering import run_in
from gateway.underlay.messages import IFINFOMSG, IFLA_IFNAME, IFLA_QDISC, attributes_of, text_of
from gateway.underlay.netlink import Requests
from vpn import anchors, firewall, routing, shaping
from vpn.precedence import Flows
from vpn.specification import ANY, EndpointSpecification, Tunnel, interface_number
from vpn.suites import TUN_MTU, overhead

_HEADER_BYTES = 16  # struct nlmsghdr
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
    specification: EndpointSpecification, laid: Mapping[str, Laid], carriers: Mapping[Flows, str | None], tun: bool
) -> None:
    """Bring the namespace to the plan. `carriers`: which tunnel carries what, if any may.

    Raises OSError, NetlinkError.
    """
    run_in(specification.namespace, lambda: _lay(specification, laid, carriers, tun))


def _lay(
    specification: EndpointSpecification, by_name: Mapping[str, Laid], carriers: Mapping[Flows, str | None], tun: bool
) -> None:
    laid = by_name.values()
    with closing(Requests()) as requests:
        if not tun:
            _make_xfrm_interfaces(requests, specification.outside, laid)
        devices = _devices(requests)
        for device in {specification.inside, *(place.device for place in laid)} - devices.keys():
            raise OSError(errno.ENODEV, f"there is no interface {device}", specification.namespace)
        indexes = {name: device.index for name, device in devices.items()}
        if tun:
            selectors = [prefix for place in laid for prefix in place.tunnel.local_selectors]
            tunnel = (TUN, routing.BY_INSIDE)
            anchors.set_anchors(requests, indexes, specification.inside, tunnel, selectors)
        firewall.set_rules(_marked(by_name, carriers) if tun else _marked_by_devices(laid))
        for name, by_class in _rates(specification.inside, laid).items():
            shaping.set_rates(devices[name].index, devices[name].queue, by_class)
        ours = {connection.local_address for connection in specification.connections if connection.local_address}
        ways = {flows: _way(flows.prefix, by_name[name]) if name else None for flows, name in carriers.items()}
        routing.set_ways(requests, indexes, specification.inside, ours, ways)


@dataclass(frozen=True, slots=True)
class _Device:
    """An interface; `queue` is the kind of its root queueing discipline."""

    index: int
    queue: str


def _devices(requests: Requests) -> dict[str, _Device]:
    return dict(_device(message.data) for message in requests.dump(rtnl.RTM_NEWLINK))


def _device(data: bytes) -> tuple[str, _Device]:
    _, index, _ = IFINFOMSG.unpack_from(data, _HEADER_BYTES)
    attributes = dict(attributes_of(data, _HEADER_BYTES + IFINFOMSG.size))
    return text_of(attributes[IFLA_IFNAME]), _Device(index, text_of(attributes.get(IFLA_QDISC, b"")))


def _mtu(prefix: str, place: Laid) -> int:
    return max(place.mtu, _IPV6_LEAST_MTU) if ip_network(prefix).version == 6 else place.mtu


def _way(prefix: str, place: Laid) -> routing.Way:
    return routing.Way(place.device, _mtu(prefix, place))


def _marked(by_name: Mapping[str, Laid], carriers: Mapping[Flows, str | None]) -> Iterator[firewall.Marked]:
    """Yield what is behind the TUN device, where only who carries something can be meant."""
    for flows, name in carriers.items():
        if name is not None:
            yield _mark(by_name[name], flows.source, flows.prefix)


def _marked_by_devices(laid: Collection[Laid]) -> Iterator[firewall.Marked]:
    """Yield what is behind each tunnel, where each has its own device."""
    for place in laid:
        for route in place.tunnel.connection.reached():
            yield _mark(place, ANY[ip_network(route.prefix).version == 6], route.prefix)


def _mark(place: Laid, source: str, prefix: str) -> firewall.Marked:
    connection = place.tunnel.connection
    limited = connection.outbound_kbps or connection.inbound_kbps
    rate_class = place.rate_class if limited else 0
    return firewall.Marked(source, prefix, place.device, _mtu(prefix, place), rate_class)


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


def _make_xfrm_interfaces(requests: Requests, outside: str, laid: Collection[Laid]) -> None:
    wanted = {place.device: place for place in laid}
    held = _devices(requests)
    below = held[outside].index
    missing = [place for name, place in wanted.items() if name not in held]
    changes.make(
        requests,
        [changes.new_xfrm_interface(one.device, below, interface_number(one.tunnel.key)) for one in missing],
    )
    made = _devices(requests) if missing else held
    changes.make(
        requests,
        [
            changes.link_up(made[name].index, name, IFLA_MTU=max(place.mtu, _IPV6_LEAST_MTU))
            for name, place in wanted.items()
        ],
    )
    changes.remove_links(requests, [name for name in held.keys() - wanted.keys() if name.startswith("xfrm")])
