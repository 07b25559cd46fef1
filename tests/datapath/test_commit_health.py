"""Members of pools over health changes, commits and restarts: what the maps hold."""

import numpy

from tests.datapath.held import BLUE_MEMBERS, BLUES, CHOICE, Held, balanced, down, policy
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, BLUE_DOMAIN

pytestmark = needs_root


def test_health_changes_one_choice_and_no_table(held: Held) -> None:
    held.apply(BLUES)
    before = held.rows("tables", "table_word").copy()
    choice = int(held.rule(BLUE)["choice"])
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    numbers, unhealthy = held.members(BLUE)
    assert (set(numbers), unhealthy) == (set(BLUE_MEMBERS), {"10.1.1.11"})
    assert (held.rows("tables", "table_word") == before).all()
    assert int(held.rule(BLUE)["choice"]) == choice
    assert held.programmer.members_down()[BLUE] == {CHOICE: {"10.1.1.11"}}
    assert held.programmer.verify() == {}


def test_a_commit_keeps_the_health_that_was_told_last(held: Held) -> None:
    held.apply(BLUES)
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    held.apply(policy(balanced(BLUE_DOMAIN, (*BLUE_MEMBERS, "10.1.6.22"))))
    numbers, unhealthy = held.members(BLUE)
    assert (set(numbers), unhealthy) == ({*BLUE_MEMBERS, "10.1.6.22"}, {"10.1.1.11"})


def test_health_that_is_told_before_its_domain_counts_when_it_comes(held: Held) -> None:
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    held.apply(BLUES)
    assert held.members(BLUE)[1] == {"10.1.1.11"}


def test_a_restart_takes_nobody_who_is_down_and_rewrites_nothing(held: Held) -> None:
    held.apply(BLUES)
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    names = ("arena", "root", "tables", "choices", "domains")
    before = {name: held.gateway.programs.datapath.maps[name].mmap().tobytes() for name in names}
    programmer = held.restart()
    assert programmer.compartments_changed({}) == {}
    assert programmer.apply(BLUES) == {}
    assert {name: held.gateway.programs.datapath.maps[name].mmap().tobytes() for name in names} == before
    assert programmer.members_down()[BLUE] == {CHOICE: {"10.1.1.11"}}
    assert programmer.health_changed(BLUE, down()) == {}
    assert held.members(BLUE)[1] == frozenset()


def test_numbers_last_over_a_restart_that_finds_another_policy(held: Held) -> None:
    held.apply(BLUES)
    rule, (numbers, _) = held.rule(BLUE).tobytes(), held.members(BLUE)
    kept = held.remember(BLUE, 1, numbers[BLUE_MEMBERS[0]], 1)
    programmer = held.restart()
    assert programmer.apply(policy(balanced(BLUE_DOMAIN, (*BLUE_MEMBERS[:2], "10.1.6.22")))) == {}
    after, _ = held.members(BLUE)
    assert {address: after[address] for address in BLUE_MEMBERS[:2]} == {
        address: numbers[address] for address in BLUE_MEMBERS[:2]
    }
    assert after["10.1.6.22"] not in numbers.values()
    assert held.rule(BLUE)["port"].tobytes() in rule
    assert held.connections(BLUE)[kept]["meta"] != 0


def test_a_members_number_is_given_again_only_when_no_connection_carries_it(held: Held) -> None:
    held.apply(BLUES)
    numbers, _ = held.members(BLUE)
    stale = held.remember(BLUE, 1, numbers["10.1.1.12"], 1)
    kept = held.remember(BLUE, 1, numbers["10.1.1.11"], 2)
    held.apply(policy(balanced(BLUE_DOMAIN, BLUE_MEMBERS[:2])))
    assert held.connections(BLUE)[stale]["meta"] != 0
    held.apply(policy(balanced(BLUE_DOMAIN, (*BLUE_MEMBERS[:2], "10.1.6.22"))))
    assert held.members(BLUE)[0]["10.1.6.22"] == numbers["10.1.1.12"]
    assert held.connections(BLUE)[stale]["meta"] == 0
    assert held.connections(BLUE)[kept]["meta"] != 0


def test_what_access_lists_forget_leaves_translated_connections_alone(held: Held) -> None:
    held.apply(BLUES)
    place = held.remember(BLUE, 1, 1, 1)
    entries = held.connections(BLUE)
    other = place + 1
    entries[other] = (1, 2, 3, 4, 6 | 22 << 24)
    held.programmer._memory.regions.forget_generation(held.programmer.numbers()[BLUE], 22)
    assert entries[place]["meta"] != 0
    assert entries[other]["meta"] == 0


def test_choices_that_go_and_come_use_no_more_memory(held: Held) -> None:
    held.apply(BLUES)
    used, choices = held.programmer.used_lines(), held.choices()
    for number in range(20):
        held.apply(policy(balanced(BLUE_DOMAIN, BLUE_MEMBERS[: 1 + number % 3])))
        held.programmer.health_changed(BLUE, down(*BLUE_MEMBERS[: number % 3]))
    held.programmer.health_changed(BLUE, down())
    held.apply(BLUES)
    assert (held.programmer.used_lines(), held.choices()) == (used, choices)
    held.apply(policy())
    assert held.choices() == 0


def test_a_choice_that_no_rule_names_is_freed_by_a_restart(held: Held) -> None:
    """Of a daemon that was killed between a choice's word and its domain's."""
    held.apply(BLUES)
    used = held.programmer.used_lines()
    lost = held.programmer._memory.place(numpy.zeros(640, numpy.uint8))
    held.programmer._memory.switch_choice(77, lost)
    assert held.programmer.used_lines() != used
    assert held.restart().apply(BLUES) == {}
    assert (held.programmer.used_lines(), held.choices()) == (used, 1)


def test_a_choice_that_is_not_what_was_written_is_noticed(held: Held) -> None:
    held.apply(BLUES)
    words = held.rows("choices", "table_word")
    number = int(held.rule(BLUE)["choice"])
    at = int(words[number]["line"]) * 64 + 70
    arena = held.gateway.programs.datapath.maps["arena"].mmap()
    arena[at] ^= 1
    assert "a choice of members in the datapath is not what was written" in held.programmer.verify()[BLUE]
    arena[at] ^= 1
    words["line"][number] += 1
    assert "uses another choice of members" in held.programmer.verify()[BLUE]
    words["line"][number] -= 1
    assert held.programmer.verify() == {}
