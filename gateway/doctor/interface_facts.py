"""Reads the interfaces of this network namespace: iproute2, ethtool and /sys/bus (which no namespace hides)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.doctor.commands import json_output, output
from gateway.doctor.facts import Channels, Feature, Interface
from gateway.doctor.xdp_features import read_xdp_features

_BUSES = Path("/sys/bus")


def read_interfaces() -> Mapping[str, Interface]:
    """Return all interfaces by their names."""
    links = json_output("ip", "-j", "-d", "link", "show")
    xdp_features = read_xdp_features()
    return {link["ifname"]: _interface(link, xdp_features) for link in links}


def _interface(link: Mapping[str, Any], xdp_features: Mapping[int, int]) -> Interface:
    name = link["ifname"]
    device = f"{link['parentbus']}/{link['parentdev']}" if "parentdev" in link else ""
    kind = link.get("linkinfo", {}).get("info_kind", "")
    return Interface(
        name=name,
        index=link["ifindex"],
        up="UP" in link["flags"],
        carrier="LOWER_UP" in link["flags"],
        mtu=link["mtu"],
        kind=kind,
        driver=kind or _driver_of(device),
        device=device,
        peer=link.get("link") if kind == "veth" else None,
        xdp_program=link.get("xdp", {}).get("prog", {}).get("id"),
        xdp_features=xdp_features.get(link["ifindex"]),
        channels=read_channels(output("ethtool", "-l", name) or ""),
        virtual_functions=_virtual_functions_of(device),
        features=read_features(json_output("ethtool", "--json", "-k", name)),
    )


def _device_path(device: str) -> Path:
    bus, _, name = device.partition("/")
    return _BUSES / bus / "devices" / name


def _driver_of(device: str) -> str:
    link = _device_path(device) / "driver"
    return link.resolve().name if device and link.exists() else ""


def _virtual_functions_of(device: str) -> int:
    number = _device_path(device) / "sriov_numvfs"
    return int(number.read_text()) if device and number.exists() else 0


def read_features(document: list[dict[str, Any]]) -> dict[str, Feature]:
    """Read the JSON of `ethtool --json -k`."""
    return {
        name: Feature(active=bool(state["active"]), fixed=bool(state["fixed"]))
        for interface in document
        for name, state in interface.items()
        if isinstance(state, dict)
    }


def read_channels(text: str) -> Channels | None:
    """Read `ethtool -l`: first a block of maximums, then one of what is set; a driver counts either sides or pairs."""
    most, _, present = text.partition("Current hardware settings:")
    if not present:
        return None
    maximum, current = _counts(most), _counts(present)
    return Channels(
        receive=current["RX"] + current["Combined"],
        transmit=current["TX"] + current["Combined"],
        most=max(maximum["RX"], maximum["Combined"]),
    )


def _counts(block: str) -> dict[str, int]:
    found = dict(re.findall(r"^(RX|TX|Combined):\s+(\d+)", block, re.MULTILINE))
    return {name: int(found.get(name, 0)) for name in ("RX", "TX", "Combined")}
