"""The labs are plain data: their policies and configurations are such that a gateway takes them."""

from pathlib import Path

import pytest

from deploy.lab import credentials, gateway
from deploy.lab.catalogue import LABS
from gateway.configuration import load
from gateway.policy.document import parse_yaml
from gateway.policy.validation import faults


@pytest.mark.parametrize("name", LABS)
def test_a_gateway_finds_no_fault_in_the_policy_of(name: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(gateway.configuration(LABS[name], tmp_path))
    ports = {port.name: port for port in load(file).ports}
    text = credentials.fill_in(LABS[name].policy_path.read_text(), credentials.make(LABS[name]))
    policy = parse_yaml(text.encode())
    assert faults(policy, ports) == []


@pytest.mark.parametrize("name", LABS)
def test_each_virtual_subnet_keeps_to_one_encapsulation_in(name: str) -> None:
    """A host attaches a virtual subnet to one device."""
    used: dict[int, set[str]] = {}
    for machine in LABS[name].machines:
        used.setdefault(machine.vsid, set()).add(machine.encapsulation)
    assert {vsid: kinds for vsid, kinds in used.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize("name", LABS)
def test_every_machine_lives_on_one_host_of(name: str) -> None:
    lab = LABS[name]
    assert sorted(m.name for host in lab.hosts for m in host.machines) == sorted(m.name for m in lab.machines)
