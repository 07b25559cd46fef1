"""A public address that two domains share over commits: who has which ports, at every moment."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.policy.balancing import Frontend, LoadBalancer, OutboundNat
from gateway.policy.internet import INTERNET
from gateway.policy.model import Policy, RoutingDomain
from tests.datapath.held import TARGET_FRONTEND, VIP, Held, policy, unprogrammable
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, BLUE_DOMAIN, RED, RED_DOMAIN

pytestmark = needs_root


def lending(domain: RoutingDomain, ports: str) -> RoutingDomain:
    vsid = domain.virtual_subnets[0].vsid
    outbound = OutboundNat("out", vsid, ports=ports)
    return replace(
        domain, load_balancers=(LoadBalancer("out", (Frontend("out", VIP, True),), outbound_nat=(outbound,)),)
    )


def shared(blues: str | None, reds: str | None) -> Policy:
    blue = lending(BLUE_DOMAIN, blues) if blues else BLUE_DOMAIN
    return policy(blue, lending(RED_DOMAIN, reds) if reds else RED_DOMAIN)


def lenders(held: Held) -> Mapping[int, str]:
    """Whose each block of ports is, by RDID, as packets from the Internet find it."""
    found = held.exact(INTERNET, VIP)
    if found is None:
        return {}
    rdids = {number: rdid for rdid, number in held.programmer.numbers().items()}
    owner = rdids[found[0] & ~TARGET_FRONTEND]
    if owner != INTERNET:
        return dict.fromkeys(range(16), owner)
    block = held.table(INTERNET)
    first = int(held.row(block, 2, "table_services")["frontends"])
    frontend = held.row(block, first + found[1], "frontend")
    row = held.row(block, int(frontend["lenders"]), "lenders")
    return {at: rdids[int(one["domain"])] for at, one in enumerate(row["of_block"]) if one["domain"]}


def during(held: Held, wanted: Policy, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[int, str]]:
    """Apply; who has which ports after each switch of the Internet's table."""
    memory = held.programmer._memory
    seen = []
    switch = memory.switch

    def watched(number: int, rdid: str, placed: Any) -> None:
        switch(number, rdid, placed)
        if rdid == INTERNET:
            seen.append(lenders(held))

    with monkeypatch.context() as patched:
        patched.setattr(memory, "switch", watched)
        held.apply(wanted)
    return seen


def test_an_address_of_one_domain_leads_there_and_one_of_two_leads_by_port(held: Held) -> None:
    held.apply(shared("4096-12287", None))
    assert lenders(held) == dict.fromkeys(range(16), BLUE)
    held.apply(shared("4096-12287", "12288-16383"))
    assert lenders(held) == {1: BLUE, 2: BLUE, 3: RED}
    held.apply(shared(None, "12288-16383"))
    assert lenders(held) == dict.fromkeys(range(16), RED)
    held.apply(policy())
    assert lenders(held) == {}


def test_a_domain_keeps_its_ports_while_another_joins_changes_and_goes(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.apply(shared("4096-12287", None))
    for reds in ("12288-16383", "16384-20479", None):
        seen = during(held, shared("4096-12287", reds), monkeypatch)
        assert seen
        assert all((one[1], one[2]) == (BLUE, BLUE) for one in seen)


def test_ports_that_move_to_another_domain_belong_to_none_in_between(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.apply(shared("4096-12287", "12288-20479"))
    seen = during(held, shared("4096-8191", "8192-20479"), monkeypatch)
    assert seen == [{1: BLUE, 3: RED, 4: RED}, {1: BLUE, 2: RED, 3: RED, 4: RED}]


def test_a_restart_knows_who_has_which_ports(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    held.apply(shared("4096-12287", "12288-16383"))
    held.restart()
    seen = during(held, shared("4096-12287", "12288-16383"), monkeypatch)
    assert seen == [{1: BLUE, 2: BLUE, 3: RED}]


def test_ports_that_a_failed_domain_holds_are_given_to_no_other(held: Held) -> None:
    held.apply(shared("4096-12287", "12288-16383"))
    wanted = policy(unprogrammable(BLUE_DOMAIN), lending(RED_DOMAIN, "8192-16383"))
    errors = held.gateway.programs.apply(wanted)
    assert set(errors) == {BLUE, RED}
    assert f"{VIP} is still held by routing domain {BLUE}" in errors[RED]
    assert lenders(held) == {1: BLUE, 2: BLUE, 3: RED}
    others = policy(unprogrammable(BLUE_DOMAIN), lending(RED_DOMAIN, "12288-20479"))
    assert set(held.gateway.programs.apply(others)) == {BLUE}
    assert lenders(held) == {1: BLUE, 2: BLUE, 3: RED, 4: RED}
