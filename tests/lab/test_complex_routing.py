"""A tenant whose default route points to a virtual machine of its own."""

from deploy.lab import probes
from deploy.lab.running import RunningLab

INTERNET = "203.0.113.10"


def test_the_default_route_leads_through_the_tenants_gateway_machine(complex_routing: RunningLab) -> None:
    for machine in ("A", "B", "X"):
        assert probes.page(complex_routing, machine, INTERNET) == "tenant internet"


def test_traceroute_shows_the_router_and_the_gateway_machine(complex_routing: RunningLab) -> None:
    assert probes.routers(complex_routing, "A", INTERNET) == ("10.0.1.1", "10.0.2.250", INTERNET)


def test_the_outside_reaches_every_subnet_through_the_gateway_machine(complex_routing: RunningLab) -> None:
    for name, address in (("A", "10.0.1.10"), ("B", "10.0.1.11"), ("X", "10.1.2.12")):
        assert probes.page(complex_routing, "internet", address) == f"tenant {name}"


def test_two_segments_reach_each_other_without_the_gateway_machine(complex_routing: RunningLab) -> None:
    assert probes.routers(complex_routing, "B", "10.1.2.12") == ("10.0.1.1", "10.1.2.12")
    assert probes.page(complex_routing, "X", "10.0.1.11") == "tenant B"
