"""The answer to "how is this provider address reached?"."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hop:
    """The next hop of one provider address.

    `interface` carries the frame, tagged with `vlan` unless that is 0. `source` is our provider address to send from.
    `destination_mac` is None while the neighbour is unresolved. `mtu` counts the bytes of an outer IP packet.
    """

    interface: str
    interface_index: int
    vlan: int
    source: str
    source_mac: bytes
    destination_mac: bytes | None
    mtu: int
