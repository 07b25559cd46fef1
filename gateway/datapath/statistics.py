"""The datapath's counters, by number of routing domain; number 0 is what belongs to none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath

_DROP = "DROP_"


@dataclass(frozen=True, slots=True)
class DomainStatistics:
    """Of one domain: (packets, bytes of IP) by direction, and packets by drop reason, zeros left out.

    `ordered`: fragments that went to be put in order.
    """

    traffic: Mapping[str, tuple[int, int]]
    drops: Mapping[str, int]
    ordered: int = 0


def drop_reasons(layout: Layout) -> dict[str, int]:
    """Return the named reasons for a drop with their numbers, which are stable."""
    return {
        name.removeprefix(_DROP).lower(): number
        for name, number in layout.enum("verdict").items()
        if name.startswith(_DROP) and name != "DROP_REASONS"
    }


def read(datapath: Datapath, layout: Layout) -> dict[int, DomainStatistics]:
    """Read the counters of all domains that have any, summed over the CPUs."""
    directions = {name.lower(): number for name, number in layout.enum("direction").items() if name != "DIRECTIONS"}
    reasons = drop_reasons(layout)
    traffic = datapath.maps["traffic"].sum_percpu(layout.struct("traffic"))
    packets, volume = traffic["packets"], traffic["bytes"]
    rare = datapath.maps["drops"].sum_percpu(layout.struct("drop_counters"))
    drops, ordered = rare["packets"], rare["ordered"]
    seen = numpy.flatnonzero(packets.any(axis=1) | drops.any(axis=1) | (ordered > 0)).tolist()
    return {
        number: DomainStatistics(
            traffic={
                name: (int(packets[number, at]), int(volume[number, at]))
                for name, at in directions.items()
                if packets[number, at]
            },
            drops={name: int(drops[number, at]) for name, at in reasons.items() if drops[number, at]},
            ordered=int(ordered[number]),
        )
        for number in seen
    }
