"""Who takes the connections of a rule: a consistent-hash table of numbers, and the members by number. Pure."""

from collections.abc import Mapping

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.programming.block import LINE_BYTES, BlockBuilder, Bytes
from gateway.programming.encoding import address_of, words_of
from lb.pools import PoolState


def compile_choice(pool: PoolState, numbers: Mapping[str, int], layout: Layout) -> Bytes:
    """Lay out the members of a pool, which have these numbers, and the slots that its active ones share."""
    builder = BlockBuilder()
    builder.reserve(1)
    header = numpy.zeros(1, layout.struct("choice"))
    states = layout.enum("member_state")
    rows = numpy.zeros(max(numbers.values(), default=0) + 1, layout.struct("member"))
    for member in pool.members:
        row = rows[numbers[member.customer_address]]
        row["address"] = words_of(member.customer_address)
        row["state"] = states[f"MEMBER_{member.state.upper()}"]
    header["members"], header["member_count"] = builder.add(rows), len(rows)
    slots = _slots(pool, numbers)
    header["slot_count"] = len(slots)
    header["slots"] = builder.add(slots) if len(slots) else 0
    return builder.finish(header)


def _slots(pool: PoolState, numbers: Mapping[str, int]) -> numpy.typing.NDArray[numpy.uint16]:
    by_position = numpy.array([numbers[member.customer_address] for member in pool.members], numpy.uint16)
    active = [position for position, member in enumerate(pool.members) if member.state == "active"]
    if len(active) < 2:
        return by_position[active]  # one slot is enough for who is alone
    slots = pool.slots()
    return by_position[:0] if slots is None else by_position[slots]


def read_choice(block: Bytes, layout: Layout) -> tuple[dict[str, int], frozenset[str]]:
    """Read back the numbers of the members, and which of them were down."""
    header = block[:LINE_BYTES].view(layout.struct("choice"))[0]
    states, kind = layout.enum("member_state"), layout.struct("member")
    first, count = int(header["members"]) * LINE_BYTES, int(header["member_count"])
    rows = block[first : first + count * kind.itemsize].view(kind)
    present = numpy.flatnonzero(rows["state"] != states["MEMBER_ABSENT"]).tolist()
    addresses = {address_of(rows[number]["address"]): number for number in present}
    down = frozenset(text for text, number in addresses.items() if rows[number]["state"] == states["MEMBER_DOWN"])
    return addresses, down
