"""A lab is there whole or not at all, and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from deploy.lab import gateway, main
from deploy.lab.catalogue import LABS
from deploy.lab.errors import LabError, ProcessError
from deploy.lab.running import RunningLab
from deploy.lab.topology import Lab

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="labs need root for their network namespaces")
NAMESPACES = Path("/run/netns")
NAME = "two-networks-one-owner"


def leftovers(lab: Lab) -> list[Path]:
    """Compartments too, which are the gateway's own."""
    paths = gateway.pins_of(lab), gateway.tunnels_of(lab), RunningLab(lab).directory
    return [*NAMESPACES.glob(RunningLab(lab).namespace("*")), *(path for path in paths if path.exists())]


@needs_root
def test_a_second_up_is_refused_and_the_first_stays() -> None:
    lab = main.up(NAME)
    try:
        with pytest.raises(LabError, match=f"tgw lab down {NAME}"):
            main.up(NAME)
        assert lab.run("Research1", "ip", "link")
    finally:
        main.down(NAME)


@needs_root
@pytest.mark.parametrize("name", [NAME, "hybrid-cloud"])
def test_down_leaves_nothing_behind(name: str) -> None:
    lab = main.up(name)
    processes = list(lab.processes)
    assert len(leftovers(lab.topology)) > len(lab.topology.nodes())
    main.down(name)
    assert leftovers(lab.topology) == []
    assert [process for process in processes if process.runs()] == []


@needs_root
def test_a_lab_whose_gateway_fails_is_taken_down_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "ROUTER_MAC", "not a MAC")
    with pytest.raises(ProcessError, match="router_mac"):
        main.up(NAME)
    assert leftovers(LABS[NAME]) == []


def test_down_of_a_lab_that_is_not_up_is_no_fault() -> None:
    main.down("private-cloud-figure1")


def test_an_unknown_lab_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(LabError, match="blue-red, contoso-fabrikam"):
        main.up("purple")
