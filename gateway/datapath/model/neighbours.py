"""ARP and neighbour discovery: answered from policy in the overlay, spoken as any router does on external networks."""

from ipaddress import IPv4Address, IPv6Address

from gateway.datapath.model import arp, discovery, ethernet, lookup
from gateway.datapath.model.answers import answered, back
from gateway.datapath.model.arp import Arp
from gateway.datapath.model.discovery import OVERRIDE, ROUTER, SOLICITED
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ethernet import Frame
from gateway.datapath.model.ip import Address
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.routes import Exit, OnLink
from gateway.datapath.model.verdict import Action, DecidedError, DropReason, dropped, passed

ASSUMED_MAC = "02-00-00-00-00-01"


def is_solicitation(data: bytes) -> bool:
    message = discovery.parse(data)
    return message is not None and message.type == discovery.SOLICITATION


def is_discovery(data: bytes) -> bool:
    return discovery.parse(data) is not None


def overlay_arp(passage: Passage, origin: Origin, data: bytes) -> DecidedError:
    request = arp.parse(data)
    if request is None or request.operation != arp.REQUEST:
        return dropped(DropReason.NEIGHBOR_UNANSWERED)
    mac = _overlay_mac(passage, origin, request.target, request.sender, request.sender_mac)
    if mac is None:
        return dropped(DropReason.NEIGHBOR_UNANSWERED)
    return answered(passage, origin, back(passage, origin, ethernet.ARP, _reply(request, mac)))


def _reply(request: Arp, mac: bytes) -> bytes:
    return Arp(arp.REPLY, mac, request.target, request.sender_mac, request.sender).build()


def overlay_solicitation(passage: Passage, origin: Origin, data: bytes) -> DecidedError:
    message = discovery.parse(data)
    assert message is not None  # is_solicitation has looked
    mac = None
    if not message.source.is_unspecified:
        mac = _overlay_mac(passage, origin, message.target, message.source, origin.source_mac)
    if mac is None:
        return dropped(DropReason.NEIGHBOR_UNANSWERED)
    is_router = message.target in _router_addresses(origin) or _is_frontend(origin, message.target)
    flags = SOLICITED | OVERRIDE | (ROUTER if is_router else 0)
    packet = discovery.advertisement(message.target, message.source, flags, mac)
    return answered(passage, origin, back(passage, origin, ethernet.IPV6, packet))


def _router_addresses(origin: Origin) -> list[Address]:
    assert origin.vsid is not None
    return list(origin.domain.subnets[origin.vsid].router_addresses.values())


def _is_frontend(origin: Origin, target: Address) -> bool:
    """Whether the gateway has the address for the domain, in the origin's VSID."""
    frontend = origin.domain.services.frontends.get(target)
    return frontend is not None and frontend.vsid == origin.vsid


def _overlay_mac(passage: Passage, origin: Origin, target: Address, asker: Address, asker_mac: bytes) -> bytes | None:
    """The MAC that a VM of the origin's VSID is given for `target`, None where it gets no answer."""
    domain, router_mac = origin.domain, passage.surroundings.router_mac
    record = domain.records.get(target)
    if target in _router_addresses(origin):
        passage.note("neighbours", domain.local[target], f"{target} is the router's address.")
        return record.mac if record else router_mac
    if _is_frontend(origin, target):
        passage.note("neighbours", domain.services.frontends[target].entry, f"{target} is a frontend.")
        return router_mac
    if record is not None and record.vsid == origin.vsid:
        passage.note("neighbours", record.entry, f"{target} has a record in VSID {record.vsid}.")
        return None if record.mac == asker_mac or asker == target else record.mac
    if _leaves_subnet(domain, origin.vsid, target):
        passage.note("neighbours", domain.entry, f"A route more specific than the subnet leads to {target}.")
        return router_mac
    passage.note("neighbours", domain.entry, f"Nothing of VSID {origin.vsid} is known at {target}.")
    return None


def _leaves_subnet(domain: Domain, vsid: int | None, target: Address) -> bool:
    """Whether `target` lies in the virtual subnet, but a more specific route takes it elsewhere."""
    routes = lookup.best_routes(domain, target)
    if vsid is None or all(isinstance(route.target, OnLink) for route in routes):
        return False
    prefixes = [prefix for prefix in domain.subnets[vsid].router_addresses if target in prefix]
    return bool(prefixes) and routes[0].prefix.prefixlen > prefixes[0].prefixlen


def external_arp(passage: Passage, origin: Origin) -> DecidedError:
    message = arp.parse(passage.frame.payload)
    if message is None:
        return passed()
    if not _is_ours(passage, message.target):
        if message.sender == message.target and _key(passage, message.sender) in passage.state.neighbours:
            _learn(passage, message.sender, message.sender_mac)
        return passed()
    if message.operation not in (arp.REQUEST, arp.REPLY):
        return passed()
    if int(message.sender):  # RFC 5227, section 2.1.1: a probe must not be learned from
        _learn(passage, message.sender, message.sender_mac)
    if message.operation == arp.REPLY:
        return DecidedError(Action.CONSUMED)
    reply = _reply(message, passage.interface.mac_bytes)
    return answered(passage, origin, back(passage, origin, ethernet.ARP, reply))


def external_discovery(passage: Passage, origin: Origin) -> DecidedError:
    message = discovery.parse(passage.frame.payload)
    assert message is not None  # is_discovery has looked
    if message.type == discovery.ADVERTISEMENT:
        if not _is_ours(passage, message.destination):
            known = _key(passage, message.target) in passage.state.neighbours
            if known and message.link_layer is not None and message.flags & OVERRIDE:  # RFC 4861, section 7.2.6
                _learn(passage, message.target, message.link_layer)
            return passed()
        if message.link_layer is not None:
            _learn(passage, message.target, message.link_layer)
        return DecidedError(Action.CONSUMED)
    if not _is_ours(passage, message.target):
        return passed()
    destination, flags = message.source, ROUTER | SOLICITED | OVERRIDE
    if message.source.is_unspecified:  # duplicate address detection: RFC 4861, section 7.2.4
        destination, flags = discovery.ALL_NODES, ROUTER | OVERRIDE
    elif message.link_layer is not None:
        _learn(passage, message.source, message.link_layer)
    packet = discovery.advertisement(message.target, destination, flags, passage.interface.mac_bytes)
    return answered(passage, origin, back(passage, origin, ethernet.IPV6, packet))


def _is_ours(passage: Passage, address: Address) -> bool:
    """Whether the gateway answers for an address on the link: its own, or a public one of a network that is there."""
    locals_ = [local for connection in passage.attachment.connections for local in connection.local]
    if any(local.ip == address for local in locals_):
        return True
    is_internet = passage.attachment.domain is passage.internet
    return is_internet and passage.is_public(address) and any(address in local.network for local in locals_)


def _key(passage: Passage, address: Address) -> tuple[str, int, str]:
    return passage.attachment.interface, passage.attachment.vlan, str(address)


def _learn(passage: Passage, address: Address, mac: bytes) -> None:
    passage.state.neighbours[_key(passage, address)] = ethernet.mac_text(mac)
    passage.note("neighbours", passage.attachment.entry, f"{address} is at {ethernet.mac_text(mac)}.")


def external_mac(passage: Passage, exit_: Exit, neighbour: Address) -> bytes:
    """The neighbour's MAC; raises `resolving`, with the request for it, where it is not known."""
    if exit_.mac is not None:
        return exit_.mac
    connection = exit_.connection
    mac = passage.state.neighbours.get((connection.interface, connection.vlan, str(neighbour)))
    if mac is None and passage.assume_neighbours:
        mac = ASSUMED_MAC
        passage.note(
            "neighbours",
            connection.entry,
            f"The MAC of {neighbour} is not known yet and would be asked for; {mac} stands for it here.",
        )
    if mac is not None:
        return ethernet.mac_bytes(mac)
    passage.note("neighbours", connection.entry, f"The MAC of {neighbour} is not known: it is asked for.")
    frame = _request(passage, exit_, neighbour)
    if frame is None or passage.domain is None or not passage.may_answer(passage.domain):
        raise dropped(DropReason.RESOLVING)
    raise DecidedError(Action.DROPPED, DropReason.RESOLVING, connection.interface, frame)


def _request(passage: Passage, exit_: Exit, neighbour: Address) -> bytes | None:
    """The ARP request or neighbour solicitation; None where the connection has no address to ask from."""
    connection = exit_.connection
    mac = passage.surroundings.interfaces[connection.interface].mac_bytes
    tag = ethernet.tag(connection.vlan)
    source = connection.address_asking(neighbour)
    if isinstance(source, IPv4Address) and isinstance(neighbour, IPv4Address):
        request = Arp(arp.REQUEST, mac, source, bytes(6), neighbour).build()
        return Frame(ethernet.BROADCAST, mac, tag, ethernet.ARP, request).build()
    if isinstance(source, IPv6Address) and isinstance(neighbour, IPv6Address):
        destination = discovery.multicast_mac(discovery.solicited_node(neighbour))
        packet = discovery.solicitation(source, neighbour, mac)
        return Frame(destination, mac, tag, ethernet.IPV6, packet).build()
    return None
