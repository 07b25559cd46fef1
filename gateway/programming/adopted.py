"""What an earlier daemon left in the datapath."""

from gateway.datapath.layout import Layout
from gateway.programming.choices import HeldChoice
from gateway.programming.choices_block import read_choice
from gateway.programming.domain_block import generation_of
from gateway.programming.holdings import Holdings
from gateway.programming.memory import Memory, Placed
from gateway.programming.programmed import Programmed
from gateway.programming.recovery import recovered_numbers


def adopt(memory: Memory, layout: Layout) -> tuple[Placed | None, dict[str, Programmed]]:
    """Return the directory, and the domains with the numbers in their blocks; what nothing names any more is freed."""
    directory, domains, choices = memory.adopt()
    held = {}
    for number, placed in choices.items():
        members, down = read_choice(placed.block, layout)
        held[number] = HeldChoice(number, placed, members, down)
    members_of = {number: each.members for number, each in held.items()}
    found = {}
    for rdid, (number, placed) in domains.items():
        numbers = recovered_numbers(placed.block, layout, members_of)
        public = frozenset((address, at) for (address, vsid), at in numbers.frontends.items() if not vsid)
        found[rdid] = Programmed(
            number,
            placed,
            Holdings(public=public),
            generation=generation_of(placed.block, layout),
            numbers=numbers,
            choices={origin: held[origin] for origin in numbers.members if isinstance(origin, int)},
        )
    used = {choice.number for each in found.values() for choice in each.choices.values()}
    for number in held.keys() - used:
        memory.retire_choice(number, held[number].placed)
    memory.reclaim()
    return directory, found
