"""What is told of an endpoint and its tunnels."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from vpn.associations import ChildSa

State = Literal["connected", "connecting", "failed", "standby", "down", "disabled"]


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last: a code for programs, a text for people; and when, in seconds since 1970."""

    code: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection. Times are seconds since 1970, counters since this gateway first saw the tunnel.

    "connected" means that a CHILD_SA is installed; "standby" that it waits for another tunnel to fail, "down" that an
    administrator took it down. `mtu` is the largest inner packet, in bytes, 0 while unknown. `offloadable` says whether
    the tunnel could be taken over by hardware, else `why_not`.
    """

    name: str
    state: State
    text: str
    remote_address: str
    local_address: str | None = None
    since: float | None = None
    last_error: LastError | None = None
    mtu: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    packets_out: int = 0
    ike_rekeys: int = 0
    esp_rekeys: int = 0
    ike_suite: str | None = None
    esp_suite: str | None = None
    udp_encapsulated: bool = False
    offloadable: bool = False
    why_not: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One routing domain's endpoint; `backend` says how ESP is done and why so, `fault` what keeps it from running."""

    routing_domain: str
    backend: str
    pid: int | None
    fault: str | None
    connections: tuple[ConnectionStatus, ...]


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a connection's log, at seconds since 1970."""

    at: float
    text: str


Traffic = tuple[int, int, int, int]  # bytes in and out, packets in and out


@dataclass(slots=True)
class Counted:
    """Counters over all SAs of a tunnel: each begins at zero, and is gone some seconds after its rekeying."""

    ike_rekeys: int = 0
    esp_rekeys: int = 0
    _gone: Traffic = (0, 0, 0, 0)
    _present: dict[int, Traffic] = field(default_factory=dict)

    def see(self, children: Iterable[ChildSa]) -> None:
        """Take in the SAs that there are at this moment."""
        now = {sa.number: (sa.bytes_in, sa.bytes_out, sa.packets_in, sa.packets_out) for sa in children}
        for number in self._present.keys() - now.keys():
            self._gone = _sum(self._gone, self._present[number])
        self._present = now

    def total(self) -> Traffic:
        """Return what all SAs have carried."""
        total = self._gone
        for traffic in self._present.values():
            total = _sum(total, traffic)
        return total


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]
