"""What the demo tries of load balancing: who answers, who is seen, and that connections stay where they are."""

from collections.abc import Callable, Iterator
from functools import partial

from deploy.checks import Check, page
from deploy.lab import gateway, members, probes
from deploy.lab.clients import Clients, connected
from deploy.lab.running import RunningLab

OUTSIDE = "203.0.113.10"
BLUE, RED, TIER = "198.51.100.80", "198.51.100.81", "10.1.5.100"
CLIENTS = (
    Clients("blue", "internet", BLUE, sources=(OUTSIDE, "203.0.113.11", "198.51.100.254")),
    Clients("red", "internet", RED, sources=(OUTSIDE, "203.0.113.11")),
    Clients("blue", "BlueVM11", TIER),
    Clients("red", "RedVM11", TIER),
)
CHANGING, CHANGING_NAME = "10.1.6.23", "blue BlueVM4"


def balanced(lab: RunningLab) -> Iterator[Check]:
    """Yield questions that may be asked at the same time."""
    yield _shared(lab, "blue", "internet", BLUE, "BlueVM1 BlueVM2 BlueVM3 BlueVM4")
    yield _shared(lab, "red", "internet", RED, "RedVM1 RedVM2")
    yield _shared(lab, "blue", "BlueVM11", TIER, "BlueVM21 BlueVM22")
    yield _shared(lab, "red", "RedVM11", TIER, "RedVM21 RedVM22")
    yield _shared(lab, "blue", "BlueVM1", f"{TIER}:8080", "BlueVM1 BlueVM2 BlueVM3 BlueVM4", "a member itself")
    yield _shared(lab, "blue", "internet", f"{BLUE}:8001", "BlueVM1", "an inbound NAT rule")
    yield page(lab, "blue", "internet", "198.51.100.90", "blue BlueVM11", "a machine's own public address")
    yield page(lab, "red", "RedVM11", OUTSIDE, "internet internet", "out from the shared address")


def unserved(lab: RunningLab) -> Iterator[Check]:
    yield Check(
        "blue",
        f"internet opens port 81 of {BLUE}, which has no rule",
        "silence",
        lambda: probes.page(lab, "internet", BLUE, port=81, seconds=1) or "silence",
        "vip_not_served",
    )


def changes(lab: RunningLab) -> Iterator[Check]:
    """Yield what is done under held connections; each check leaves the policy to the next."""
    change = partial(members.set_state, lab, "blue", "tier1", CHANGING)
    held = f"{sum(clients.held for clients in CLIENTS)} connections held while"
    for what, expected, action in (
        (f"{CHANGING_NAME} drains", "0 broken, 0 misled", partial(change, "draining")),
        (f"{CHANGING_NAME} is active again", "0 broken, 0 misled", partial(change, "active")),
        ("the daemon is killed and starts again", "0 broken, 0 misled", partial(_kill_and_start, lab)),
        (f"{CHANGING_NAME} is removed", f"broken only those of {CHANGING_NAME}, 0 misled", partial(change, "removed")),
        (f"{CHANGING_NAME} is added", "0 broken, 0 misled", partial(change, "active")),
    ):
        yield Check("both", f"{held} {what}", expected, _hold(lab, action))


def _shared(lab: RunningLab, tenant: str, node: str, target: str, expected: str, note: str = "") -> Check:
    address, _, port = target.partition(":")

    def attempt() -> str:
        pages = probes.servers(lab, node, address, {f"{tenant} {name}" for name in expected.split()}, int(port or 80))
        return " ".join(sorted((words or "silence").removeprefix(f"{tenant} ") for words in pages))

    words = f" ({note})" if note else ""
    return Check(tenant, f"{node} opens http://{target} repeatedly{words}", expected, attempt)


def _kill_and_start(lab: RunningLab) -> None:
    gateway.kill(lab)
    gateway.start(lab)


def _hold(lab: RunningLab, action: Callable[[], object]) -> Callable[[], str]:
    def attempt() -> str:
        with connected(lab, CLIENTS) as reports:
            action()
        broken = [server for report in reports for server, _ in report.broken]
        broken += [why for report in reports for why in report.failed]
        misled = sum(report.changed + len(report.foreign) for report in reports)
        only = set(broken) == {CHANGING_NAME}
        return f"{f'broken only those of {CHANGING_NAME}' if only else f'{len(broken)} broken'}, {misled} misled"

    return attempt
