"""Public addresses over commits: what the maps hold, and in which order that changes."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.policy.balancing import (
    PublicAddress,
)
from gateway.policy.internet import INTERNET
from gateway.policy.model import NetworkConnection, Policy, VirtualSubnet
from tests.datapath.held import BLUES, REDS, VIP, Held, links, policy, unprogrammable
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, BLUE_DOMAIN, RED, RED_DOMAIN

pytestmark = needs_root


def test_the_internet_is_a_domain_of_its_own_where_an_external_port_has_addresses(held: Held) -> None:
    number = held.programmer.numbers()[INTERNET]
    root = held.rows("root", "root")
    arena = held.gateway.programs.datapath.maps["arena"].mmap()
    directory = held.row(arena, int(root["directory"][0]), "directory")
    assert directory["internet"] == number
    assert held.exact(INTERNET, "198.51.100.1") is not None
    assert held.programmer.apply(policy()) == {}


def test_a_port_that_a_tenants_connection_uses_is_not_the_internets(held: Held) -> None:
    connection = NetworkConnection("mine", "internet", ("198.51.100.2/24",))
    using = replace(BLUE_DOMAIN, network_connections=(*BLUE_DOMAIN.network_connections, connection))
    held.apply(policy(using))
    assert INTERNET not in held.programmer.numbers()
    arena = held.gateway.programs.datapath.maps["arena"].mmap()
    assert held.row(arena, int(held.rows("root", "root")["directory"][0]), "directory")["internet"] == 0
    held.apply(policy())
    assert held.exact(INTERNET, "198.51.100.1") is not None


def test_a_public_address_leads_to_its_domain_comes_goes_and_moves(held: Held) -> None:
    assert held.owner(VIP) is None
    held.apply(BLUES)
    assert held.owner(VIP) == BLUE
    held.apply(REDS)
    assert held.owner(VIP) == RED
    held.apply(policy(red=replace(RED_DOMAIN, public_addresses=(PublicAddress(VIP, "10.1.1.11"),))))
    assert held.owner(VIP) == RED
    held.apply(policy())
    assert held.owner(VIP) is None


def switches(held: Held, wanted: Policy, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Apply; of each table that is switched, whose it is and who owns the VIP in the Internet's table then."""
    memory = held.programmer._memory
    seen: list[tuple[str, str | None]] = []
    switch = memory.switch

    def watched(number: int, rdid: str, placed: Any) -> None:
        switch(number, rdid, placed)
        found = held.exact(INTERNET, VIP)
        numbers = {number: rdid for rdid, number in held.programmer.numbers().items()}
        seen.append((rdid, numbers[found[0] & 0xFFF] if found else None))

    monkeypatch.setattr(memory, "switch", watched)
    assert held.gateway.programs.apply(wanted) == {}
    monkeypatch.undo()
    return seen


def test_a_public_address_is_found_only_while_its_domains_table_knows_it(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert switches(held, BLUES, monkeypatch)[-1] == (INTERNET, BLUE)
    assert switches(held, BLUES, monkeypatch)[-1] == (RED, BLUE)  # nothing of the Internet's changed
    moving = switches(held, REDS, monkeypatch)
    assert moving == [(INTERNET, None), (BLUE, None), (RED, None), (INTERNET, RED)]
    assert switches(held, policy(), monkeypatch)[0] == (INTERNET, None)


def test_a_policy_that_leaves_public_addresses_alone_leaves_the_internets_table_alone(held: Held) -> None:
    held.apply(BLUES)
    before = held.rows("tables", "table_word")[held.programmer.numbers()[INTERNET]].copy()
    more = replace(BLUES.routing_domains[0], virtual_subnets=(*BLUE_DOMAIN.virtual_subnets, VirtualSubnet(6009, ())))
    held.apply(policy(more))
    assert held.rows("tables", "table_word")[held.programmer.numbers()[INTERNET]] == before


def test_a_public_address_that_a_failed_domain_holds_is_given_to_no_other(held: Held) -> None:
    held.apply(BLUES)
    errors = held.gateway.programs.apply(policy(unprogrammable(BLUE_DOMAIN), REDS.routing_domains[1]))
    assert errors.keys() == {BLUE, RED}
    assert f"{VIP} is still held by" in errors[RED]
    assert held.owner(VIP) == BLUE


def test_where_the_internets_table_cannot_follow_no_public_address_comes_or_goes(held: Held) -> None:
    connection = NetworkConnection("mine", "internet", ("198.51.100.2/24",))
    held.apply(policy(red=replace(RED_DOMAIN, network_connections=(connection,))))
    used = held.programmer.used_lines()
    errors = held.gateway.programs.apply(policy(BLUES.routing_domains[0], unprogrammable(RED_DOMAIN)))
    assert errors.keys() == {BLUE, RED, INTERNET}
    assert "port internet VLAN 40 is still held" in errors[INTERNET]
    assert "the table of public addresses cannot be changed" in errors[BLUE]
    assert (held.programmer.used_lines(), held.choices()) == (used, 0)
    held.apply(BLUES)
    assert held.owner(VIP) == BLUE


def test_pools_that_do_not_fit_leave_the_old_ones_and_nothing_behind(held: Held) -> None:
    held.apply(BLUES)
    used, before = held.programmer.used_lines(), held.members(BLUE)
    balancer = BLUES.routing_domains[0].load_balancers[0]
    pools = tuple(replace(balancer.backend_pools[0], name=f"p{number}") for number in range(200))
    rules = tuple(
        replace(balancer.rules[0], name=each.name, port=1000 + number, pool=each.name)
        for number, each in enumerate(pools)
    )
    many = replace(BLUE_DOMAIN, load_balancers=(replace(balancer, backend_pools=pools, rules=rules),))
    errors = held.gateway.programs.apply(policy(many))
    assert errors.keys() == {BLUE}
    assert "the table memory is full" in errors[BLUE]
    assert held.members(BLUE) == before
    assert held.programmer.verify() == {}
    held.apply(BLUES)
    assert (held.programmer.used_lines(), held.choices()) == (used, 1)


def test_a_new_domain_that_is_refused_leaves_nothing_behind(held: Held) -> None:
    red_only = Policy(routing_domains=(RED_DOMAIN,))
    held.apply(red_only)
    used, numbers = held.programmer.used_lines(), held.programmer.numbers()
    failing = replace(unprogrammable(RED_DOMAIN), virtual_subnets=())
    blue = replace(BLUE_DOMAIN, virtual_subnets=(VirtualSubnet(5001, ("10.1.0.0/16",)),), lookup_records=())
    errors = held.gateway.programs.apply(policy(blue, failing))
    assert errors.keys() == {BLUE, RED}
    assert "VSID 5001 is still held" in errors[BLUE]
    assert (held.programmer.used_lines(), held.programmer.numbers()) == (used, numbers)
    before = held.rows("root", "root")["directory"][0]
    held.programmer.links_changed({"x0": None})
    assert held.rows("root", "root")["directory"][0] != before  # links still change the directory
    held.programmer.links_changed({"x0": links()["x0"]})
    held.apply(red_only)
