"""What a lab consists of, as plain data: hosts and machines follow from its policy document, the rest is said here."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

POLICIES = Path(__file__).parent / "policies"
OFFICES = Path(__file__).parent / "offices"


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine: one network card in one virtual subnet.

    Addresses carry their prefix length; routers are its default gateways.
    """

    name: str
    domain: str
    vsid: int
    mac: str
    addresses: tuple[str, ...]
    routers: tuple[str, ...]
    provider_address: str
    encapsulation: str

    @property
    def address(self) -> str:
        """Its first address, without the prefix length."""
        return self.addresses[0].partition("/")[0]


@dataclass(frozen=True, slots=True)
class Host:
    """A hypervisor. The address carries its prefix length; the router joins its provider subnet to the others."""

    name: str
    address: str
    router: str
    machines: tuple[Machine, ...]

    @property
    def provider_address(self) -> str:
        return self.address.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Site:
    """A network of plain machines outside the overlay: one server with its routes (prefix, next hop).

    It is behind a port of the gateway (with a VLAN: tagged), or behind a second card of a machine that routes.
    Where the gateway's port has addresses of its own, the site is the Internet, and its server the port's next hop.
    """

    name: str
    domain: str
    addresses: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    port: str = ""
    vlan: int = 0
    behind_machine: str = ""
    machine_addresses: tuple[str, ...] = ()
    port_addresses: tuple[str, ...] = ()

    def gateways(self) -> tuple[str, ...]:
        """Return its own addresses in the networks of the port's."""
        networks = {ipaddress.ip_interface(address).network for address in self.port_addresses}
        interfaces = map(ipaddress.ip_interface, self.addresses)
        return tuple(str(interface.ip) for interface in interfaces if interface.network in networks)


@dataclass(frozen=True, slots=True)
class Office:
    """A tenant's premises: a router with strongSwan, linked to the site `internet`, and one server behind it.

    `networks` are the router's addresses there, of which the first is the server's default gateway. `dns` are names and
    addresses that the server answers for. Where router and gateway know each other by certificates, `certified` are
    the names in theirs.
    """

    name: str
    domain: str
    address: str
    networks: tuple[str, ...]
    server_addresses: tuple[str, ...]
    dns: tuple[tuple[str, str], ...] = ()
    certified: tuple[str, str] | None = None

    @property
    def server(self) -> str:
        return f"{self.name}-server"

    @property
    def configuration_path(self) -> Path:
        """Where the router's swanctl.conf is, as its administrator wrote it."""
        return OFFICES / f"{self.name}.conf"


@dataclass(frozen=True)
class Lab:
    """`provider_mtu` is of every provider link; with `one_nic` the sites share the gateway's provider link.

    Where a site has a VLAN, or the gateway's provider port, a switch called `trunk` is between the gateway's link and
    its other ends.
    """

    name: str
    title: str
    policy: str
    gateway_address: str
    sites: tuple[Site, ...]
    offices: tuple[Office, ...] = ()
    provider_mtu: int = 1600
    one_nic: bool = False
    provider_vlan: int = 0

    @property
    def policy_path(self) -> Path:
        return POLICIES / self.policy

    @cached_property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.policy_path.read_text())
        return document

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        """Those of all records but the gateway's own, by which it lends addresses to what lies behind it."""
        found = (machine for domain in self.document["routing_domains"] for machine in _machines(domain))
        return tuple(machine for machine in found if machine.provider_address != self.gateway_provider_address)

    @cached_property
    def lent_addresses(self) -> dict[str, str]:
        """Return the gateway's provider address by customer addresses that rewriting hosts send to there."""
        records = (record for domain in self.document["routing_domains"] for record in domain["lookup_records"])
        own = self.gateway_provider_address
        return {each["customer_address"]: own for each in records if each["provider_address"] == own}

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(_host(entry, self.machines) for entry in self.document["hosts"])

    @property
    def gateway_provider_address(self) -> str:
        return self.gateway_address.partition("/")[0]

    @property
    def tagged(self) -> bool:
        return bool(self.provider_vlan) or any(site.vlan for site in self.sites)

    def external_ports(self) -> dict[str, str]:
        """Return the gateway's interface by external port."""
        ports = list(dict.fromkeys(site.port for site in self.sites if site.port))
        return {port: "eth1" if self.one_nic else f"eth{number + 2}" for number, port in enumerate(ports)}

    def provider_subnets(self) -> tuple[str, ...]:
        addresses = [host.address for host in self.hosts] + [self.gateway_address]
        return tuple(dict.fromkeys(str(ipaddress.ip_interface(address).network) for address in addresses))

    def nodes(self) -> tuple[str, ...]:
        names = ["provider", "gateway", *(["trunk"] if self.tagged else [])]
        names += [node.name for group in (self.hosts, self.machines, self.sites, self.offices) for node in group]
        return (*names, *(office.server for office in self.offices))

    def servers(self) -> dict[str, str]:
        """Return the owner of every node that serves: machines, sites, and the offices' servers."""
        owners = {node.name: node.domain for group in (self.machines, self.sites) for node in group}
        return owners | {office.server: office.domain for office in self.offices}


def router_of(prefix: str) -> str:
    """Return the lowest usable address of a prefix, where every router of the labs is."""
    return str(ipaddress.ip_network(prefix)[1])


def _machines(domain: dict[str, Any]) -> Iterator[Machine]:
    prefixes = {subnet["vsid"]: subnet["prefixes"] for subnet in domain["virtual_subnets"]}
    cards: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for record in domain["lookup_records"]:
        cards.setdefault((record["vsid"], record["mac"]), []).append(record)
    for (vsid, mac), records in cards.items():
        own = [_prefix_of(record["customer_address"], prefixes[vsid]) for record in records]
        yield Machine(
            name=records[0]["name"],
            domain=domain["name"],
            vsid=vsid,
            mac=mac.replace("-", ":"),
            addresses=tuple(
                f"{record['customer_address']}/{prefix.prefixlen}" for record, prefix in zip(records, own, strict=True)
            ),
            routers=tuple(str(prefix[1]) for prefix in own),
            provider_address=records[0]["provider_address"],
            encapsulation=records[0].get("encapsulation", "vxlan"),
        )


def _prefix_of(address: str, prefixes: list[str]) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    networks = map(ipaddress.ip_network, prefixes)
    return next(network for network in networks if ipaddress.ip_address(address) in network)


def _host(entry: dict[str, Any], machines: tuple[Machine, ...]) -> Host:
    provider = entry["provider_addresses"][0]
    address = provider["address"]
    return Host(
        name=entry["id"],
        address=f"{address}/{provider['prefix_length']}",
        router=entry["provider_routes"][0]["next_hop"],
        machines=tuple(machine for machine in machines if machine.provider_address == address),
    )
