"""Load balancers of a routing domain: addresses, the machines behind them, and how one is chosen for the other."""

from typing import Annotated, Literal

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass

from gateway.policy.fields import CONFIG, Address, AddressOrPrefix, Name, PortNumber, Ports, Vsid, Within

Transport = Literal["tcp", "udp"]
Switch = Annotated[bool, Strict()]
Seconds = Annotated[int, Strict(), Within(1, 3600)]
Count = Annotated[int, Strict(), Within(1, 100)]


@dataclass(frozen=True, slots=True, config=CONFIG)
class Frontend:
    """A virtual address: public, in an external port's network, or in the virtual subnet `vsid`."""

    name: Name
    address: Address
    public: Switch = False
    vsid: Vsid | None = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class PoolMember:
    """A customer address that takes connections in proportion to its weight; a draining one takes no new ones."""

    customer_address: Address
    weight: Annotated[int, Strict(), Within(1, 1000)] = 1
    state: Literal["active", "draining"] = "active"


@dataclass(frozen=True, slots=True, config=CONFIG)
class BackendPool:
    """Members; with fewer than `minimum_healthy` of them healthy, unhealthy ones are kept in use."""

    name: Name
    members: tuple[PoolMember, ...]
    minimum_healthy: Annotated[int, Strict(), Within(0, 4096)] = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class Probe:
    """How a member's health is asked for; `rise` and `fall` answers in a row change what is thought of it."""

    name: Name
    protocol: Literal["tcp", "http"]
    port: PortNumber
    path: Annotated[str, Field(max_length=2048)] = "/"
    expect_status: Annotated[int, Strict(), Within(100, 599)] = 200
    interval_s: Seconds = 5
    timeout_s: Seconds = 2
    rise: Count = 2
    fall: Count = 3


@dataclass(frozen=True, slots=True, config=CONFIG)
class BalancingRule:
    """What of a frontend goes to which pool. `floating_ip` leaves the frontend's address in the packets."""

    name: Name
    frontend: Name
    pool: Name
    protocol: Transport
    port: PortNumber
    probe: Name | None = None
    backend_port: PortNumber | None = None
    distribution: Literal["five_tuple", "three_tuple", "two_tuple"] = "five_tuple"
    idle_timeout_s: Annotated[int, Strict(), Within(4, 86400)] = 240
    floating_ip: Switch = False
    direct_return: Switch = False

    def destination_port(self) -> int:
        """Return the port at the member: the frontend's unless another is given."""
        return self.port if self.backend_port is None else self.backend_port


@dataclass(frozen=True, slots=True, config=CONFIG)
class InboundNatRule:
    """A port of a frontend that leads to one machine."""

    name: Name
    frontend: Name
    protocol: Transport
    port: PortNumber
    customer_address: Address
    backend_port: PortNumber | None = None

    def destination_port(self) -> int:
        """Return the port at the machine: the frontend's unless another is given."""
        return self.port if self.backend_port is None else self.backend_port


@dataclass(frozen=True, slots=True, config=CONFIG)
class OutboundNat:
    """A public frontend that machines of a virtual subnet reach the outside from: those named, else all others.

    `ports` are whole blocks of 4,096; unless given, all that no other outbound NAT from this frontend names.
    """

    frontend: Name
    vsid: Vsid
    customer_prefixes: tuple[AddressOrPrefix, ...] = ()
    ports: Ports = None


@dataclass(frozen=True, slots=True, config=CONFIG)
class LoadBalancer:
    """Frontends, pools and probes, and the rules that tie them together by their names."""

    name: Name
    frontends: tuple[Frontend, ...] = ()
    backend_pools: tuple[BackendPool, ...] = ()
    probes: tuple[Probe, ...] = ()
    rules: tuple[BalancingRule, ...] = ()
    inbound_nat_rules: tuple[InboundNatRule, ...] = ()
    outbound_nat: tuple[OutboundNat, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class PublicAddress:
    """A public address of one machine, all protocols, both ways."""

    address: Address
    customer_address: Address
