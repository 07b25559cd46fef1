"""Faults of a tenant's premises by name: `tgw lab fault hybrid-cloud half-mtu`, and away again with `--undo`."""

import ipaddress
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from deploy.lab.errors import LabError
from deploy.lab.offices import INTERNET, Router
from deploy.lab.processes import end

HALF_MTU, WHOLE_MTU = 750, 1500
SECRET = re.compile(r"^(\s*secret = ).*$", re.MULTILINE)
PROPOSALS = re.compile(r"^(\s*(?:esp_)?proposals = ).*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to an office, and undone."""

    meaning: str
    do: Callable[[Router], None]
    undo: Callable[[Router], None]


def _cut_link(router: Router) -> None:
    router.lab.configure(INTERNET, f"link set {router.office.name} down")


def _join_link(router: Router) -> None:
    router.lab.configure(INTERNET, f"link set {router.office.name} up")


def _kill_charon(router: Router) -> None:
    end(router.lab.processes.find(router.process_name), signal.SIGKILL)


def _reconfigure(router: Router, pattern: re.Pattern[str], value: str) -> None:
    """Change settings, and end what was agreed under the former ones: the gateway will try again."""
    text = router.office.configuration_path.read_text()
    changed = pattern.sub(rf"\g<1>{value}", text)
    if changed == text:
        raise LabError(f"{router.office.name} has no such setting: it knows the gateway by its certificate")
    (router.directory / "swanctl.conf").write_text(changed)
    router.load()
    router.close_tunnels()


def _wrong_key(router: Router) -> None:
    _reconfigure(router, SECRET, "not-the-key-that-was-agreed-on")


def _mismatched_proposals(router: Router) -> None:
    _reconfigure(router, PROPOSALS, "aes192-sha384-modp3072")


def _configure_again(router: Router) -> None:
    (router.directory / "swanctl.conf").write_text(router.office.configuration_path.read_text())
    router.load()
    router.close_tunnels()


def _half_mtu(router: Router) -> None:
    _set_mtu(router, HALF_MTU)


def _whole_mtu(router: Router) -> None:
    _set_mtu(router, WHOLE_MTU)


def _set_mtu(router: Router, mtu: int) -> None:
    """Only the Internet's router and the office's know: the gateway is told by them (RFC 1191), or not at all."""
    router.lab.configure(INTERNET, f"link set {router.office.name} mtu {mtu}")
    router.lab.configure(router.office.name, f"link set eth0 mtu {mtu}")


def _nat(router: Router) -> None:
    """Give the router a private address behind its public one. Only UDP is translated, and ESP itself is dropped.

    Without a connection table, which would remember what was not translated before.
    """
    public = ipaddress.ip_interface(router.office.address).ip
    outer, inner = _private_addresses(router)
    link = router.office.name
    rules = f"""
table ip {_table(router)} {{
    chain translate {{
        type filter hook prerouting priority raw
        ip daddr {public} meta l4proto udp ip daddr set {inner}
        iifname "{link}" ip saddr {inner} meta l4proto udp ip saddr set {public}
        ip daddr {public} drop
        iifname "{link}" ip saddr {inner} drop
    }}
}}"""
    router.lab.configure(INTERNET, f"addr add {outer}/24 dev {link}")
    _readdress(router, router.office.address, f"{inner}/24", outer)
    router.lab.run(INTERNET, "nft", "-f", "-", text=rules)
    router.begin_anew()


def _no_nat(router: Router) -> None:
    network = ipaddress.ip_interface(router.office.address).network
    router.lab.run(INTERNET, "nft", "delete", "table", "ip", _table(router))
    outer, inner = _private_addresses(router)
    router.lab.configure(INTERNET, f"addr del {outer}/24 dev {router.office.name}")
    _readdress(router, f"{inner}/24", router.office.address, str(network[1]))
    router.begin_anew()


def _private_addresses(router: Router) -> tuple[str, str]:
    """Return those of the NAT and of the router, which no other office has."""
    number = ipaddress.ip_interface(router.office.address).ip.packed[-1]
    return f"192.168.{number}.1", f"192.168.{number}.2"


def _table(router: Router) -> str:
    return router.office.name.replace("-", "_")


def _readdress(router: Router, old: str, new: str, next_hop: str) -> None:
    router.lab.configure(
        router.office.name,
        f"addr del {old} dev eth0",
        f"addr add {new} dev eth0",
        f"route replace default via {next_hop}",
    )


FAULTS = {
    "cut-link": Fault("the link to the Internet is down", _cut_link, _join_link),
    "kill-charon": Fault("strongSwan is killed", _kill_charon, Router.start),
    "wrong-key": Fault("the pre-shared key is another", _wrong_key, _configure_again),
    "mismatched-proposals": Fault("IKE and ESP have other suites", _mismatched_proposals, _configure_again),
    "half-mtu": Fault("the link has half the MTU", _half_mtu, _whole_mtu),
    "nat": Fault("the router is behind a NAT", _nat, _no_nat),
}


def find(name: str) -> Fault:
    if name not in FAULTS:
        words = "; ".join(f"{known}: {fault.meaning}" for known, fault in FAULTS.items())
        raise LabError(f"there is no fault {name!r}. There are: {words}")
    return FAULTS[name]
