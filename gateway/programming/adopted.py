"""What an earlier daemon left in the datapath, or in the version of it that is about to be replaced."""

import structlog

from gateway.datapath.layout import Layout, LayoutError
from gateway.datapath.loader import Datapath
from gateway.programming.choices import HeldChoice
from gateway.programming.choices_block import read_choice
from gateway.programming.domain_block import generation_of
from gateway.programming.holdings import Holdings
from gateway.programming.memory import Memory, Placed
from gateway.programming.programmed import Inherited, Programmed
from gateway.programming.recovery import recovered_numbers, recovered_public

log = structlog.get_logger(__name__)


def adopt(memory: Memory, layout: Layout) -> tuple[Placed | None, dict[str, Programmed]]:
    """Return the directory, and the domains with the numbers in their blocks; what nothing names any more is freed."""
    directory, found, choices = _read(memory, layout)
    used = {choice.number for each in found.values() for choice in each.choices.values()}
    for number in choices.keys() - used:
        memory.retire_choice(number, choices[number].placed)
    memory.reclaim()
    return directory, found


def inherit(predecessor: Datapath | None) -> dict[str, Inherited]:
    """Return what another version of the datapath holds of each domain, as far as its layout can be understood."""
    if predecessor is None:
        return {}
    try:
        layout = predecessor.maps["arena"].layout()
        _, found, _ = _read(Memory(predecessor, layout), layout)
    except (LayoutError, LookupError, ValueError) as error:  # a structure, a map or a field that it did not have
        log.warning("numbers_not_inherited", why=str(error), effect="translated connections begin anew")
        return {}
    return {
        rdid: Inherited(each.numbers, {origin: held.down for origin, held in each.choices.items()}, each.generation)
        for rdid, each in found.items()
    }


def _read(memory: Memory, layout: Layout) -> tuple[Placed | None, dict[str, Programmed], dict[int, HeldChoice]]:
    directory, domains, choices = memory.adopt()
    held = {}
    for number, placed in choices.items():
        members, down = read_choice(placed.block, layout)
        held[number] = HeldChoice(number, placed, members, down)
    members_of = {number: each.members for number, each in held.items()}
    found = {}
    for rdid, (number, placed) in domains.items():
        numbers = recovered_numbers(placed.block, layout, members_of)
        found[rdid] = Programmed(
            number,
            placed,
            Holdings(public=recovered_public(placed.block, layout)),
            generation=generation_of(placed.block, layout),
            numbers=numbers,
            choices={origin: held[origin] for origin in numbers.members if isinstance(origin, int)},
        )
    return directory, found, held
