"""What the API shows and asks of load balancers and tunnels as they run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.compartments.specification import Compartment
from gateway.policy.model import RoutingDomain
from lb.pools import Choice, PoolState
from vpn.kernel import Backend
from vpn.status import ConnectionStatus, LogLine


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a pool. `state`: what the datapath does with it; the rest: what its probe tells, None without one.

    `since` is in seconds since 1970, `latest` what the last probe found.
    """

    customer_address: str
    weight: int
    state: Literal["active", "draining", "down"]
    status: Literal["unknown", "healthy", "unhealthy"] | None = None
    since: float | None = None
    reason: str | None = None
    latest: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as rules with this probe, or none, see it."""

    load_balancer: str
    pool: str
    probe: str | None
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class DomainServices:
    """Pools and tunnels of a routing domain, and what keeps its compartment from being as it should."""

    pools: Sequence[Pool] = ()
    tunnels: Sequence[ConnectionStatus] = ()
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """What packets meet of a policy's services now.

    By RDID the states of pools, by key the compartments that stand, by RDID and name the tunnels.
    """

    pools: Mapping[str, Mapping[Choice, PoolState]] = field(default_factory=dict)
    compartments: Mapping[str, Compartment] = field(default_factory=dict)
    tunnels: Mapping[tuple[str, str], ConnectionStatus] = field(default_factory=dict)


class Services(Protocol):
    """What serves the parts of a policy that need more than tables."""

    def ipsec(self) -> Backend:
        """Return how tunnels are encrypted on this machine, and why so."""
        ...

    def faults(self) -> Sequence[str]:
        """Return what keeps all domains from being served, in sentences that say how to mend it."""
        ...

    def report(self, domains: Iterable[RoutingDomain]) -> Mapping[str, DomainServices]:
        """Return the state of each of these domains, by RDID."""
        ...

    def serving(self, domains: Iterable[RoutingDomain]) -> Serving:
        """Return what packets of these domains meet now."""
        ...

    def up(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        """Connect a tunnel; return when it is up or has failed. Raises KeyError where nothing looks after it."""
        ...

    def down(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        """Close a tunnel until `up`. Raises KeyError where nothing looks after it."""
        ...

    def log(self, domain_id: str, tunnel: str) -> Sequence[LogLine]:
        """Return the latest lines of a tunnel's log. Raises KeyError where nothing looks after it."""
        ...
