"""The policy document: what an orchestrator pushes, in HNV's own words.

Everything is frozen. Addresses, prefixes and MACs are canonical strings (see `addresses`), sequences are tuples.
A value of one of these types is well formed by itself; what must agree between values is checked in `validation`.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass
from pydantic_core import to_json

from gateway.policy import addresses
from gateway.policy.balancing import (
    BackendPool,
    BalancingRule,
    Frontend,
    InboundNatRule,
    LoadBalancer,
    OutboundNat,
    PoolMember,
    Probe,
    PublicAddress,
)
from gateway.policy.connections import (
    CertificateAuthentication,
    Connection,
    ConnectionRoute,
    EspProposal,
    IkeProposal,
    IpsecConnection,
    NetworkConnection,
    PskAuthentication,
    TrafficSelectors,
)
from gateway.policy.fields import (
    CONFIG,
    PROTOCOL_NUMBERS,
    Address,
    Guid,
    MacAddress,
    Metric,
    Name,
    NextHop,
    Ports,
    Prefix,
    PrefixLength,
    Priority,
    Protocol,
    Vlan,
    Vsid,
)
from gateway.policy.secret import Secret

__all__ = [
    "AccessControlList",
    "AccessRule",
    "AppliesTo",
    "BackendPool",
    "BalancingRule",
    "CertificateAuthentication",
    "ConnectionRoute",
    "CustomerRoute",
    "EspProposal",
    "Frontend",
    "Host",
    "IkeProposal",
    "InboundNatRule",
    "IpsecConnection",
    "LoadBalancer",
    "LookupRecord",
    "NetworkConnection",
    "OutboundNat",
    "Policy",
    "PoolMember",
    "Probe",
    "ProviderAddress",
    "ProviderRoute",
    "PskAuthentication",
    "PublicAddress",
    "RoutingDomain",
    "Secret",
    "TrafficSelectors",
    "VirtualSubnet",
    "service_addresses_of",
]

Verdict = Literal["allow", "deny"]


def _storable(options: dict[str, Any]) -> dict[str, Any]:
    try:
        to_json(options)
    except (ValueError, UnicodeError) as error:  # too deep, or half a character
        raise ValueError(f"cannot be stored: {error}") from None
    return options


@dataclass(frozen=True, slots=True, config=CONFIG)
class ProviderAddress:
    """An address of a host on the provider network. VLAN 0 is untagged."""

    address: Address
    prefix_length: PrefixLength
    vlan: Vlan = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class ProviderRoute:
    """A route of a host's provider network; no next hop means on-link."""

    prefix: Prefix
    next_hop: NextHop = None
    metric: Metric = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Host:
    """A machine that virtual machines live on. Told to the hosts, never applied to the gateway's own routing."""

    id: Name
    provider_addresses: tuple[ProviderAddress, ...] = ()
    provider_routes: tuple[ProviderRoute, ...] = ()
    southbound: Literal["agent", "hardware_vtep", "ms_vtep", "none"] = "agent"


@dataclass(frozen=True, slots=True, config=CONFIG)
class VirtualSubnet:
    """A broadcast domain of a routing domain; `gateways` overrides the router address of the prefix it lies in."""

    vsid: Vsid
    prefixes: tuple[Prefix, ...]
    gateways: tuple[Address, ...] = ()

    def router_addresses(self) -> dict[str, str]:
        """Return the router's address in each prefix: the `gateways` entry inside it, else the lowest usable one."""
        return {prefix: self._gateway_in(prefix) or addresses.lowest_usable(prefix) for prefix in self.prefixes}

    def _gateway_in(self, prefix: str) -> str | None:
        network = addresses.address_range(prefix)
        inside = (entry for entry in self.gateways if network.first <= addresses.ordinal(entry) <= network.last)
        return next(inside, None)


@dataclass(frozen=True, slots=True, config=CONFIG)
class LookupRecord:
    """Where a customer address lives. `l2only` and `gateway_wildcard` have the address 0.0.0.0 or ::."""

    vsid: Vsid
    customer_address: Address
    mac: MacAddress
    provider_address: Address
    encapsulation: Literal["vxlan", "nvgre", "rewrite"] = "vxlan"
    type: Literal["static", "dynamic", "l2only", "gateway_wildcard"] = "static"
    name: Name | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class CustomerRoute:
    """A route inside a routing domain: to a customer address that has a record, or on-link without a next hop."""

    prefix: Prefix
    next_hop: NextHop = None
    metric: Metric = 0
    vsid: Vsid | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class AppliesTo:
    """What an access control list guards: a virtual subnet or a customer address, exactly one of them."""

    vsid: Vsid | None = None
    customer_address: Address | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class AccessRule:
    """One rule; what is absent matches everything. Ports match TCP and UDP only. Inbound is towards the VM."""

    priority: Priority
    direction: Literal["inbound", "outbound"]
    action: Verdict
    protocol: Protocol = None
    source_prefix: Prefix | None = None
    destination_prefix: Prefix | None = None
    source_ports: Ports = None
    destination_ports: Ports = None

    def protocol_number(self) -> int | None:
        """Return the IP protocol number, None where any protocol matches."""
        return PROTOCOL_NUMBERS[self.protocol] if isinstance(self.protocol, str) else self.protocol


@dataclass(frozen=True, slots=True, config=CONFIG)
class AccessControlList:
    """Rules, lowest priority number first, and what happens where none of them matches."""

    name: Name
    applies_to: tuple[AppliesTo, ...]
    default_inbound: Verdict = "allow"
    default_outbound: Verdict = "allow"
    rules: tuple[AccessRule, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class RoutingDomain:
    """An isolated set of virtual subnets that route to each other. `dhcp_options` are kept and have no effect.

    `service_addresses`: the gateway's own in the domain, at most one of each IP family; see `service_addresses_of`.
    """

    id: Guid
    name: Name
    tenant: Name | None = None
    routing: Literal["external_router", "distributed"] = "external_router"
    virtual_subnets: tuple[VirtualSubnet, ...] = ()
    lookup_records: tuple[LookupRecord, ...] = ()
    customer_routes: tuple[CustomerRoute, ...] = ()
    network_connections: tuple[Connection, ...] = ()
    access_control_lists: tuple[AccessControlList, ...] = ()
    dhcp_options: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None
    load_balancers: tuple[LoadBalancer, ...] = ()
    public_addresses: tuple[PublicAddress, ...] = ()
    service_addresses: tuple[Address, ...] = ()

    def l3_connections(self) -> tuple[NetworkConnection, ...]:
        """Return the connections through external ports."""
        return tuple(one for one in self.network_connections if isinstance(one, NetworkConnection))

    def ipsec_connections(self) -> tuple[IpsecConnection, ...]:
        """Return the tunnels, also those that are not enabled."""
        return tuple(one for one in self.network_connections if isinstance(one, IpsecConnection))


@dataclass(frozen=True, slots=True, config=CONFIG)
class Policy:
    """A whole policy: the hosts and the routing domains."""

    hosts: tuple[Host, ...] = ()
    routing_domains: tuple[RoutingDomain, ...] = ()


def service_addresses_of(domain: RoutingDomain) -> tuple[str, ...]:
    """Return the addresses, at most one of each IP family, that the gateway itself has in a domain.

    Probes and the ends of tunnels use them. Where `service_addresses` has none of a family it is the last address that
    a host may have, and the router has not, in the first prefix of the family with such an address.
    """
    found = {addresses.family(address): address for address in domain.service_addresses}
    for prefix, router in _router_addresses(domain):
        if addresses.family(prefix) not in found and (address := addresses.highest_usable(prefix, router)):
            found[addresses.family(prefix)] = address
    return tuple(found[family] for family in sorted(found))


def _router_addresses(domain: RoutingDomain) -> Iterator[tuple[str, str]]:
    for subnet in domain.virtual_subnets:
        yield from subnet.router_addresses().items()
