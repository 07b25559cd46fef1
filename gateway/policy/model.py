"""The policy document: what an orchestrator pushes, in HNV's own words.

Everything is frozen. Addresses, prefixes and MACs are canonical strings (see `addresses`), sequences are tuples.
A value of one of these types is well formed by itself; what must agree between values is checked in `validation`.
"""

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator, Strict
from pydantic.dataclasses import dataclass
from pydantic_core import to_json

from gateway.policy import addresses

_CONFIG = ConfigDict(extra="forbid")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}


def _guid(text: str) -> str:
    canonical = (text[1:-1] if text.startswith("{") and text.endswith("}") else text).lower()
    if not _GUID(canonical):
        raise ValueError(f"{text!r} is not a GUID such as 11111111-2222-3333-4444-000000000001")
    return canonical


def _mac(value: Any) -> Any:
    """Take a MAC of twelve decimal digits, which YAML reads as a number; other types are left to be refused."""
    return str(value) if type(value) is int and 10**11 <= value < 10**12 else value


def _storable(options: dict[str, Any]) -> dict[str, Any]:
    try:
        to_json(options)
    except (ValueError, UnicodeError) as error:  # too deep, or half a character
        raise ValueError(f"cannot be stored: {error}") from None
    return options


def _next_hop(text: str) -> str | None:
    canonical = addresses.address(text)
    return None if canonical in addresses.UNSPECIFIED else canonical  # HNV writes an on-link route so


def _protocol(value: Any) -> str | int | None:
    if value is None or (isinstance(value, str) and value in PROTOCOL_NUMBERS):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return _PROTOCOL_NAMES.get(value, value)
    raise ValueError(f"{value!r} is not a protocol: write {', '.join(PROTOCOL_NUMBERS)} or a number from 0 to 255")


@lru_cache(maxsize=1 << 12)
def port_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return the (first, last) ports of a list such as "80,443,8080-8089", in its order. Raises ValueError."""
    return tuple(_port_range(part) for part in text.split(","))


def _port_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?", text)
    if not match:
        raise ValueError(f"{text!r} is not a port or a range of ports such as 8080-8089")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise ValueError(
            f"{text.strip()!r} is not a range of ports: the first must not exceed the last, nor the last 65535"
        )
    return first, last


def _ports(value: Any) -> Any:
    """Take a single port that is written as a number; other types are left for the type check to refuse."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in port_ranges(value))


Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Guid = Annotated[str, AfterValidator(_guid)]
Address = Annotated[str, AfterValidator(addresses.address)]
NextHop = Annotated[str, AfterValidator(_next_hop)] | None
Prefix = Annotated[str, AfterValidator(addresses.prefix)]
InterfaceAddress = Annotated[str, AfterValidator(addresses.interface_address)]
MacAddress = Annotated[str, BeforeValidator(_mac), AfterValidator(addresses.mac)]
Vsid = Annotated[int, Strict()]
Vlan = Annotated[int, Strict(), Ge(0), Le(4094)]
PrefixLength = Annotated[int, Strict(), Ge(0), Le(128)]
Metric = Annotated[int, Strict(), Ge(0), Le(2**32 - 1)]
Priority = Annotated[int, Strict(), Ge(0), Le(65535)]
Protocol = Annotated[str | int | None, PlainValidator(_protocol)]
Ports = Annotated[str | None, BeforeValidator(_ports)]
Verdict = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ProviderAddress:
    """An address of a host on the provider network. VLAN 0 is untagged."""

    address: Address
    prefix_length: PrefixLength
    vlan: Vlan = 0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ProviderRoute:
    """A route of a host's provider network; no next hop means on-link."""

    prefix: Prefix
    next_hop: NextHop = None
    metric: Metric = 0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Host:
    """A machine that virtual machines live on. Told to the hosts, never applied to the gateway's own routing."""

    id: Name
    provider_addresses: tuple[ProviderAddress, ...] = ()
    provider_routes: tuple[ProviderRoute, ...] = ()
    southbound: Literal["agent", "hardware_vtep", "ms_vtep", "none"] = "agent"


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
class LookupRecord:
    """Where a customer address lives. `l2only` and `gateway_wildcard` have the address 0.0.0.0 or ::."""

    vsid: Vsid
    customer_address: Address
    mac: MacAddress
    provider_address: Address
    encapsulation: Literal["vxlan", "nvgre", "rewrite"] = "vxlan"
    type: Literal["static", "dynamic", "l2only", "gateway_wildcard"] = "static"
    name: Name | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class CustomerRoute:
    """A route inside a routing domain: to a customer address that has a record, or on-link without a next hop."""

    prefix: Prefix
    next_hop: NextHop = None
    metric: Metric = 0
    vsid: Vsid | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ConnectionRoute:
    """A route through a network connection: to a router on its network, or on-link without a next hop."""

    prefix: Prefix
    next_hop: NextHop = None
    metric: Metric = 0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class NetworkConnection:
    """A way out of a routing domain through an external port; VLAN 0 means the port's own."""

    name: Name
    port: Name
    local_addresses: tuple[InterfaceAddress, ...]
    type: Literal["l3"] = "l3"
    vlan: Vlan = 0
    routes: tuple[ConnectionRoute, ...] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AppliesTo:
    """What an access control list guards: a virtual subnet or a customer address, exactly one of them."""

    vsid: Vsid | None = None
    customer_address: Address | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
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


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AccessControlList:
    """Rules, lowest priority number first, and what happens where none of them matches."""

    name: Name
    applies_to: tuple[AppliesTo, ...]
    default_inbound: Verdict = "allow"
    default_outbound: Verdict = "allow"
    rules: tuple[AccessRule, ...] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class RoutingDomain:
    """An isolated set of virtual subnets that route to each other. `dhcp_options` are kept and have no effect."""

    id: Guid
    name: Name
    tenant: Name | None = None
    routing: Literal["external_router", "distributed"] = "external_router"
    virtual_subnets: tuple[VirtualSubnet, ...] = ()
    lookup_records: tuple[LookupRecord, ...] = ()
    customer_routes: tuple[CustomerRoute, ...] = ()
    network_connections: tuple[NetworkConnection, ...] = ()
    access_control_lists: tuple[AccessControlList, ...] = ()
    dhcp_options: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Policy:
    """A whole policy: the hosts and the routing domains."""

    hosts: tuple[Host, ...] = ()
    routing_domains: tuple[RoutingDomain, ...] = ()
