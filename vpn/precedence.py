"""Which of a domain's tunnels carries a packet, where more than one could.

A tunnel that is not connected is stood in for by nothing but another tunnel to the very same prefix, for the packets
from sources that both take: tunnels with different local selectors may share a prefix.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import combinations

from vpn.specification import ANY, Tunnel


@dataclass(frozen=True, slots=True, order=True)
class Flows:
    """Packets from one prefix, the longest that holds their source, to another."""

    source: str
    prefix: str


class Precedence:
    """Works out of a domain's tunnels, by name, all that does not depend on their states; safe for any thread.

    The kernel's ESP sends a packet by the tunnel whose device it was routed to. In user space there is one device, and
    the selectors alone tell by which tunnel a packet goes: two whose selectors leave that open must not both connect,
    and what another tunnel's selectors hold must not be routed there until its own tunnel is connected.
    """

    def __init__(self, tunnels: Mapping[str, Tunnel], in_user_space: bool) -> None:
        self._leading: dict[Flows, list[tuple[int, str]]] = {}
        for source, takers in _by_source(tunnels.values()):
            for tunnel in takers:
                for route in tunnel.connection.reached():
                    if _network(route.prefix).version == _network(source).version:
                        leading = self._leading.setdefault(Flows(source, route.prefix), [])
                        leading.append((route.metric, tunnel.connection.name))
        in_order = sorted(tunnels.values(), key=_rank)
        self.rivals = [
            (one.connection.name, other.connection.name)
            for one, other in combinations(in_order, 2)
            if in_user_space and (_may_take(one, other) or _may_take(other, one))
        ]
        self._contested = {
            route.prefix
            for tunnel in tunnels.values()
            for route in tunnel.connection.reached()
            if in_user_space and any(_selects(other, route.prefix) for other in tunnels.values() if other != tunnel)
        }

    def carriers(self, connected: Collection[str]) -> dict[Flows, str | None]:
        """Return which tunnel takes what: the connected one of the lowest metric, else the first.

        None where the prefix is to be closed, as long as none of its tunnels is connected.
        """
        chosen = {
            flows: min((name not in connected, metric, name) for metric, name in candidates)[-1]
            for flows, candidates in self._leading.items()
        }
        return {
            flows: None if flows.prefix in self._contested and name not in connected else name
            for flows, name in chosen.items()
        }

    def standing_by(self, hopeful: Collection[str]) -> dict[str, str]:
        """Return which tunnels are to stay unconnected, and for whose sake: one that is up, or being tried first."""
        found: dict[str, str] = {}
        for first, second in self.rivals:
            if first in hopeful and first not in found:
                found.setdefault(second, first)
        return found


def _by_source(tunnels: Collection[Tunnel]) -> Iterator[tuple[str, list[Tunnel]]]:
    """Yield sources and the tunnels that take packets from there; any source where it makes no difference."""
    for anywhere in ANY:
        version = _network(anywhere).version
        of_family = {
            local for tunnel in tunnels for local in tunnel.local_selectors if _network(local).version == version
        }
        takers = {source: [tunnel for tunnel in tunnels if _takes(tunnel, source)] for source in sorted(of_family)}
        several = {tuple(tunnel.key for tunnel in some) for some in takers.values()}
        if len(several) > 1:
            yield from takers.items()
        else:
            yield anywhere, list(tunnels)


def _takes(tunnel: Tunnel, source: str) -> bool:
    return any(_holds(local, source) for local in tunnel.local_selectors)


def _rank(tunnel: Tunnel) -> tuple[int, str]:
    return min((route.metric for route in tunnel.connection.reached()), default=0), tunnel.connection.name


def _may_take(taker: Tunnel, owner: Tunnel) -> bool:
    """Tell whether strongSwan might send by one tunnel what the routes give to the other.

    It takes the narrowest selectors, by both ends' prefix lengths together, and of equal ones the newest.
    """
    if not any(_overlap(one, other) for one in taker.local_selectors for other in owner.local_selectors):
        return False
    routed = [route.prefix for route in taker.connection.reached()]
    for route in (route.prefix for route in owner.connection.reached()):
        for selector in (selector for selector in taker.remote_selectors if _overlap(selector, route)):
            contested = max(selector, route, key=_length)
            by_its_own_route = any(_length(each) > _length(route) and _holds(each, contested) for each in routed)
            if not by_its_own_route and _narrowness(taker, contested) >= _narrowness(owner, contested):
                return True
    return False


def _narrowness(tunnel: Tunnel, prefix: str) -> int:
    of_family = [local for local in tunnel.local_selectors if (":" in local) == (":" in prefix)]
    remote = [selector for selector in tunnel.remote_selectors if _holds(selector, prefix)]
    return max(map(_length, of_family), default=0) + max(map(_length, remote), default=0)


def _selects(tunnel: Tunnel, prefix: str) -> bool:
    return any(_overlap(selector, prefix) for selector in tunnel.remote_selectors)


@lru_cache(1 << 12)
def _network(prefix: str) -> IPv4Network | IPv6Network:
    return ip_network(prefix)


def _length(prefix: str) -> int:
    return _network(prefix).prefixlen


def _overlap(one: str, other: str) -> bool:
    return _holds(one, other) or _holds(other, one)


def _holds(outer: str, inner: str) -> bool:
    around, within = _network(outer), _network(inner)
    return around.prefixlen <= within.prefixlen and within.network_address in around
