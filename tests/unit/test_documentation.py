"""What the documents say of names, numbers, commands and files is so."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from documents import WEB, blue, policy, tunnel
from live_gateway import LiveGateway
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from gateway.cli.main import app
from gateway.configuration import GatewayConfiguration, load
from gateway.datapath.build import build
from gateway.datapath.layout import Layout
from gateway.datapath.statistics import drop_reasons
from gateway.doctor.mtu import INNER_ETHERNET, NVGRE, OUTER_IPV4, OUTER_IPV6, VXLAN
from gateway.policy.document import parse_yaml
from gateway.policy.validation import faults
from gateway.programming.connection_regions import CONNECTIONS_AT_FIRST
from gateway.programming.ports import NEIGHBOUR_LINES, NEIGHBOUR_LINES6

ROOT = Path(__file__).parents[2]
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
OPERATIONS, API, DECISIONS = (PAGES[f"docs/{name}.md"] for name in ("operations", "api", "decisions"))


def section(page: str, title: str) -> str:
    """Return what is between a heading and the next one."""
    return re.split(r"^#+ ", page.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [index for index, row in enumerate(cells) if set("".join(row)) == {"-"}]
    return [row for index, row in enumerate(cells) if index not in rules and index + 1 not in rules]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def anchor(heading: str) -> str:
    """Return the name by which GitHub lets a heading be linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]*(?:#[^)]*)?)\)", PAGES[page]):
        path, _, fragment = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if fragment:
            assert fragment in [anchor(title) for title in re.findall(r"^#+ (.*)$", file.read_text(), re.M)], target


def test_the_drop_reasons_are_those_of_the_programs() -> None:
    documented = [names(reason)[0] for reason, *_ in rows(section(OPERATIONS, "Drop reasons"))]
    assert documented == list(drop_reasons(Layout.of(build())))


def test_the_metrics_are_those_that_are_served(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put(
            "/v1/policy", json=policy(blue(network_connections=[tunnel()], load_balancers=[WEB]))
        ).raise_for_status()
        served = {
            family.name + ("_total" if family.type == "counter" else ""): sorted(
                {label for sample in family.samples for label in sample.labels}
            )
            for family in text_string_to_metric_families(client.get("/metrics").text)
        }
    documented = {names(name)[0]: sorted(names(labels)) for name, labels, _ in rows(section(OPERATIONS, "Metrics"))}
    assert documented == served


def test_the_alerts_ask_for_metrics_and_drop_reasons_that_there_are() -> None:
    (group,) = yaml.safe_load((ROOT / "docs/alerts.yaml").read_text())["groups"]
    asked = " ".join(rule["expr"] for rule in group["rules"])
    documented = {names(name)[0] for name, _, _ in rows(section(OPERATIONS, "Metrics"))}
    assert set(re.findall(r"tenant_gateway_\w+", asked)) <= documented
    (reasons,) = re.findall(r'reason=~"([^"]+)"', asked)
    assert set(reasons.split("|")) <= drop_reasons(Layout.of(build())).keys()


def test_the_directions_are_those_of_the_programs() -> None:
    directions = {name.lower() for name in Layout.of(build()).enum("direction") if name != "DIRECTIONS"}
    assert directions <= set(names(section(OPERATIONS, "Metrics")))


def test_the_configuration_fields_and_defaults_are_those_that_are_read() -> None:
    documented = {names(field)[0]: default for field, default, _ in rows(section(OPERATIONS, "Configuration"))}
    assert documented == dict(fields(GatewayConfiguration))


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if name == "ports":
            yield from fields(next(iter(field.annotation.__args__)), "ports.")  # type: ignore[union-attr]
        elif isinstance(field.default, BaseModel):
            yield from fields(type(field.default), f"{name}.")
        else:
            yield f"{prefix}{name}", "required" if field.is_required() else default(field.default)


def default(value: Any) -> str:
    return "none" if value is None else f"`{json.dumps(value, default=str)}`"


def test_the_paths_are_those_of_the_api(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        served = {path: sorted(methods) for path, methods in client.get("/openapi.json").json()["paths"].items()}
    table = rows(section(API, "Paths"))
    documented = {names(path)[0]: sorted(methods.lower().split(", ")) for path, methods, _ in table}
    assert documented == served


def commands() -> Iterator[str]:
    """Find every command line of `tgw`, in a sentence or an example; not the shell function of that name."""
    for page in PAGES.values():
        lines = [line for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) for line in block.splitlines()]
        for line in [*re.findall(r"`([^`\n]*)`", page), *lines]:
            found = re.search(r"(?:^|[ /])tgw ([a-z-][^|]*)", line)
            if found and "()" not in line:
                yield found[1].strip()


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_the_command_exists(line: str) -> None:
    """Parse it as the command would, without running it."""
    command: Any = typer.main.get_command(app)
    words = line.split()
    while hasattr(command, "commands") and words:
        if words[0] in options(command):
            words = words[2:]
        else:
            command, words = command.commands[words[0]], words[1:]
    if any(each.param_type_name == "argument" and each.nargs == -1 for each in command.params):
        words = []  # those of another command
    assert {word for word in words if word.startswith("-") and word != "-"} <= options(command)


def options(command: Any) -> set[str]:
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)}


def test_the_options_named_beside_commands_exist() -> None:
    commands: list[Any] = [typer.main.get_command(app)]
    known = {"--help"}
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        known |= options(command)
    mentioned = {span.split()[0] for page in PAGES.values() for span in re.findall(r"`(--[a-z][^`]*)`", page)}
    assert mentioned <= known


def test_the_overheads_are_those_that_the_doctor_counts_with() -> None:
    documented = {row[0]: row[1:3] for row in rows(section(OPERATIONS, "MTU and overhead"))}
    for name, header in (("NVGRE", NVGRE), ("VXLAN", VXLAN)):
        assert documented[name] == [str(outer + header + INNER_ETHERNET) for outer in (OUTER_IPV4, OUTER_IPV6)]


def test_the_capacities_are_those_of_the_maps() -> None:
    header = (ROOT / "gateway/datapath/bpf/maps.h").read_text()
    most = {name: int(number) for name, number in re.findall(r"#define (\w+)_MAX (\d+)", header)}
    documented = dict(row for row in rows(section(OPERATIONS, "Capacity")) if len(row) == 2)
    assert documented["routing domains"] == f"{most['DOMAINS'] - 1:,}"
    assert documented["ports (interfaces and VLANs that are used)"] == f"{most['PORTS'] - 1:,}"
    assert documented["interfaces"] == f"{most['DEVICES']:,}"
    assert documented["provider addresses, by encapsulation, and hosts that may send"] == f"{most['ENDPOINTS'] - 1:,}"


def test_the_regions_are_as_large_as_it_says() -> None:
    capacity = section(OPERATIONS, "Capacity")
    assert f"{CONNECTIONS_AT_FIRST['4']:,} IPv4, {CONNECTIONS_AT_FIRST['6']:,} IPv6" in capacity
    assert f"{NEIGHBOUR_LINES * 4} IPv4, {NEIGHBOUR_LINES6 * 2} IPv6" in capacity


def test_the_states_of_a_port_are_explained() -> None:
    source = (ROOT / "gateway/machine.py").read_text()
    states = set(re.findall(r'state, detail = "(\w+)"', source))
    assert states == {names(state)[0] for state, _ in rows(section(OPERATIONS, "Status"))}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    documented = {name for cell, _ in rows(section(DECISIONS, "Python packages")) for name in names(cell)}
    assert documented == {requirement.partition("==")[0] for requirement in declared}


def test_every_debian_package_has_its_reason() -> None:
    listed = "".join(
        re.findall(r"packages=\(\n(.*?)^\)", (ROOT / "deploy/setup").read_text(), re.DOTALL | re.MULTILINE)
    )
    installed = {package for line in listed.splitlines() for package in line.partition("#")[0].split()}
    documented = {name for cell, _ in rows(section(DECISIONS, "Debian packages")) for name in names(cell)}
    assert documented == installed


def test_a_gateway_takes_the_examples() -> None:
    ports = load(ROOT / "docs/examples/gateway.toml").ports_by_name()
    policy = parse_yaml((ROOT / "docs/examples/policy.yaml").read_bytes())
    assert faults(policy, ports) == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd to ask")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy/systemd/tenant-gateway.service").read_text()
    installed = "/opt/tenant-gateway/.venv/bin/tgw"
    assert installed in unit
    file = tmp_path / "tenant-gateway.service"
    file.write_text(unit.replace(installed, "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
