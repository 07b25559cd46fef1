"""The demo: what crosses the gateway and what it refuses, each against what is expected."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

from rich.console import Console

from deploy import balancing_checks, tunnel_checks
from deploy.checks import Check, Outcome, ask, ask_and_count, page, table
from deploy.lab import gateway, main, probes
from deploy.lab.errors import LabError
from deploy.lab.running import RunningLab
from deploy.lab.streams import Stream, streaming

COMMITS = 100


def tenants_at_once(lab: RunningLab) -> Iterator[Check]:
    """Yield the same questions for both tenants; they are asked at the same time."""
    for tenant, name in (("blue", "Blue"), ("red", "Red")):
        sender, corpnet = f"{name}VM1", f"{tenant}-corpnet"
        yield page(lab, tenant, sender, "10.1.6.21", f"{tenant} {name}VM3", "other virtual subnet")
        yield page(lab, tenant, sender, "fd00:6::21", f"{tenant} {name}VM3", "the same over IPv6")
        yield page(lab, tenant, sender, "10.1.1.12", f"{tenant} {name}VM2", "same virtual subnet")
        yield page(lab, tenant, sender, "157.1.0.10", f"{tenant} {corpnet}", "CorpNet")
        yield page(lab, tenant, corpnet, "10.1.1.11", f"{tenant} {sender}", "from CorpNet")


def paths(lab: RunningLab, private: RunningLab) -> Iterator[Check]:
    for tenant, sender in (("blue", "BlueVM1"), ("red", "RedVM1")):
        yield Check(tenant, f"{sender} traceroute 10.1.6.21", "10.1.1.1 10.1.6.21", _hops(lab, sender, "10.1.6.21"))
        yield Check(tenant, f"{sender} full-size ping with DF to 10.1.6.21", "answered", _full_ping(lab, sender))
        yield Check(tenant, f"{sender} iperf3 to 157.1.0.10", "over 10 Mbit/s", _rate(lab, sender, "157.1.0.10"))
    for machine, mtu in (("Purple", 1450), ("Blue", 1450), ("Red", 1458)):
        address = next(entry.address for entry in private.topology.machines if entry.name == machine)
        yield Check(
            "private-cloud", f"{machine} opens CorpNet's page", "private-cloud corpnet", _text(private, machine)
        )
        yield Check("private-cloud", f"corpnet tracepath {address}", f"path MTU {mtu}", _mtu(private, address))


def refusals(lab: RunningLab) -> Iterator[Check]:
    forged = ("--vsid", "6001", "--outer-source", "192.168.2.99")
    yield Check(
        "red",
        "RedVM1 pings 10.1.6.22, which only blue has",
        "Destination Host Unreachable",
        lambda: probes.ping_error(lab, "RedVM1", "10.1.6.22"),
        "no_record",
    )
    yield Check(
        "red",
        "RedVM1 opens port 8081 of RedVM3 against the access list",
        "silence",
        lambda: probes.page(lab, "RedVM1", "10.1.6.21", port=8081, seconds=1) or "silence",
        "access_list_inbound",
    )
    yield Check("", "host1 sends VSID 7777", "silence", lambda: _forge(lab, "--vsid", "7777"), "unknown_vsid")
    yield Check(
        "blue", "host1 pretends to be 192.168.2.99", "silence", lambda: _forge(lab, *forged), "source_not_admitted"
    )


def changes(lab: RunningLab) -> Iterator[Check]:
    actions: tuple[tuple[str, Callable[[], object]], ...] = (
        (f"during {COMMITS} policy commits", partial(gateway.commit, lab, "blue", COMMITS)),
        ("while the daemon is killed", partial(gateway.kill, lab)),
        ("while it starts again", partial(gateway.start, lab)),
    )
    for when, action in actions:
        yield Check("both", f"packet streams {when}", "0 lost, 0 misrouted", _stream(lab, action))


def _text(lab: RunningLab, node: str) -> Callable[[], str]:
    return lambda: probes.page(lab, node, "157.1.0.10") or ""


def _hops(lab: RunningLab, node: str, address: str) -> Callable[[], str]:
    return lambda: " ".join(probes.routers(lab, node, address))


def _full_ping(lab: RunningLab, node: str) -> Callable[[], str]:
    return lambda: "answered" if probes.pings(lab, node, "10.1.6.21", payload=1472, fragment=False) else "lost"


def _rate(lab: RunningLab, node: str, address: str) -> Callable[[], str]:
    def attempt() -> str:
        rate = probes.throughput(lab, node, address, seconds=1)
        return "over 10 Mbit/s" if rate > 10 else f"{rate:.1f} Mbit/s"

    return attempt


def _mtu(lab: RunningLab, address: str) -> Callable[[], str]:
    return lambda: f"path MTU {probes.path(lab, 'corpnet', address).mtu}"


def _forge(lab: RunningLab, *options: str) -> str:
    probes.inject(lab, "host1", *options)
    return "silence"


def _stream(lab: RunningLab, action: Callable[[], object]) -> Callable[[], str]:
    streams = (
        Stream("blue", "BlueVM1", "BlueVM3", "10.1.6.21"),
        Stream("red", "RedVM1", "RedVM3", "10.1.6.21"),
        Stream("blue", "blue-corpnet", "BlueVM2", "10.1.1.12"),
        Stream("red", "red-corpnet", "RedVM2", "10.1.1.12"),
    )

    def attempt() -> str:
        with streaming(lab, streams) as reports:
            action()
        lost = sum(report.lost for report in reports)
        return f"{lost} lost, {sum(report.foreign for report in reports)} misrouted"

    return attempt


@contextmanager
def running(name: str) -> Iterator[RunningLab]:
    lab = main.up(name, _say)
    try:
        yield lab
    finally:
        main.down(name, _say)


def _say(words: str) -> None:
    print(f"demo: {words}", flush=True)


def _show(console: Console, title: str, outcomes: Iterable[Outcome]) -> bool:
    shown = list(outcomes)
    console.print(table(title, shown))
    return all(outcome.holds for outcome in shown)


def demonstrate() -> bool:
    """Tell whether every expectation held."""
    console = Console(width=None if sys.stdout.isatty() else 132)
    return all([_route(console), _balance(console), _tunnel(console)])


def _route(console: Console) -> bool:
    with ExitStack() as stack:
        lab, private = (stack.enter_context(running(name)) for name in ("blue-red", "private-cloud"))
        _say("both tenants ask at once")
        held = [_show(console, "What crossed: equal addresses, both tenants at once", _at_once(tenants_at_once(lab)))]
        _say("paths, path MTU and throughput")
        held.append(_show(console, "How it crossed", map(ask, paths(lab, private))))
        _say("a page that took a second: the first packet became the question for a neighbour, and TCP sent again")
        _say("what must be refused")
        held.append(_show(console, "What was rightly refused", (ask_and_count(lab, check) for check in refusals(lab))))
        _say("packet streams while the gateway is changed")
        held.append(_show(console, "While the gateway was changed", map(ask, changes(lab))))
    return all(held)


def _balance(console: Console) -> bool:
    with running("load-balancer") as lab:
        _say("clients ask at public addresses, and machines at one internal address that both tenants have")
        held = [_show(console, "What was balanced", _at_once(balancing_checks.balanced(lab)))]
        refused = (ask_and_count(lab, check) for check in balancing_checks.unserved(lab))
        held.append(_show(console, "What was rightly not served", refused))
        _say("held connections while pools change and the daemon is killed")
        held.append(_show(console, "Connections held meanwhile", map(ask, balancing_checks.changes(lab))))
    return all(held)


def _tunnel(console: Console) -> bool:
    with running("hybrid-cloud") as lab:
        _say("two web servers, moved to the cloud, ask their premises")
        held = [_show(console, "What crossed tunnels: equal addresses at all ends", _at_once(tunnel_checks.moved(lab)))]
        _say("an onlooker, and a wrong key")
        held.append(_show(console, "What the Internet saw", map(ask, tunnel_checks.watched(lab))))
        held.append(_show(console, "While a tunnel was down", map(ask, tunnel_checks.broken(lab))))
    return all(held)


def _at_once(checks: Iterable[Check]) -> list[Outcome]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(ask, checks))


def run() -> int:
    started = time.monotonic()
    try:
        right = demonstrate()
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    held = "every expectation held" if right else "NOT every expectation held"
    _say(f"{held}; {time.monotonic() - started:.0f} s")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(run())
