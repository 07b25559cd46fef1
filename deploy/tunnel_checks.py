"""What the demo tries of tunnels: a web server that moved to the cloud, and what an onlooker on the Internet sees."""

from collections.abc import Callable, Iterator
from functools import partial

from deploy.checks import Check
from deploy.lab import main, probes
from deploy.lab.recording import recorded
from deploy.lab.running import RunningLab

WEB, SQL, DNS, BRANCH = "10.1.1.11", "10.1.1.12", "10.1.1.53", "10.3.0.10"
TUNNELS = (("red", "headquarters"), ("red", "branch"), ("blue", "headquarters"))
MARKER = "how-much-is-the-fish"
IN_CLEAR = "ip and not esp and not udp port 500 and not udp port 4500"


def moved(lab: RunningLab) -> Iterator[Check]:
    """Yield the same questions for both tenants; they may be asked at the same time."""
    for tenant, name in (("red", "Red"), ("blue", "Blue")):
        web, office = f"{name}Web", f"{tenant}-hq-server"
        yield Check(
            tenant,
            f"{web}, moved to the cloud, asks {DNS} on premises for sql.{tenant}.example",
            SQL,
            partial(_resolve, lab, web, f"sql.{tenant}.example"),
        )
        yield Check(tenant, f"{web} queries the database there", f"{tenant} price for {WEB}", partial(_query, lab, web))
        yield Check(tenant, f"{office} opens http://{WEB}", f"{tenant} {web}", partial(_page, lab, office, WEB))
    yield Check("red", f"RedWeb opens http://{BRANCH}", "red red-branch-server", partial(_page, lab, "RedWeb", BRANCH))
    hops = f"10.1.1.1 10.1.1.254 red-hq {SQL}"
    yield Check("red", f"RedWeb traceroute {SQL}, once in its own subnet", hops, partial(_hops, lab))


def watched(lab: RunningLab) -> Iterator[Check]:
    yield Check("both", "an onlooker on the Internet", "IKE and ESP, 0 packets in clear", partial(_watch, lab))
    for tenant, name in TUNNELS:
        yield Check(tenant, f"suite of the tunnel to {name}", _suite(tenant), partial(_negotiated, lab, tenant, name))


def broken(lab: RunningLab) -> Iterator[Check]:
    """Yield a fault, what it does and does not do, and its end."""
    yield Check("red", "headquarters has another key; RedWeb queries the database", "silence", _with_wrong_key(lab))
    yield Check(
        "blue", "BlueWeb queries its database meanwhile", f"blue price for {WEB}", partial(_query, lab, "BlueWeb")
    )
    yield Check("red", "status of the tunnel", "the peer rejected our pre-shared key", partial(_reason, lab))
    yield Check("red", "the key is right again; RedWeb queries", f"red price for {WEB}", _with_right_key(lab))


def _resolve(lab: RunningLab, node: str, name: str) -> str:
    return probes.resolve(lab, node, name, DNS) or "silence"


def _query(lab: RunningLab, node: str) -> str:
    return probes.query(lab, node, SQL, "price") or "silence"


def _page(lab: RunningLab, node: str, address: str) -> str:
    return probes.page(lab, node, address) or "silence"


def _hops(lab: RunningLab) -> str:
    """The gateway, its end of the tunnel, and the router on premises by whichever of its addresses."""
    office = next(office for office in lab.topology.offices if office.name == "red-hq")
    own = {address.partition("/")[0] for address in office.networks}
    first, *others = probes.routers(lab, "RedWeb", SQL)
    return " ".join([first, *(office.name if hop in own else hop for hop in others)])


def _suite(tenant: str) -> str:
    return "AES_GCM_16-128" if tenant == "red" else "AES_CBC-256/HMAC_SHA2_256_128"


def _negotiated(lab: RunningLab, tenant: str, name: str) -> str:
    suite = str(probes.tunnel(lab, tenant, name)["esp_suite"])
    return next((known for known in map(_suite, ("red", "blue")) if suite.startswith(known)), suite)


def _watch(lab: RunningLab) -> str:
    with recorded(lab, "internet") as recording:
        for node in ("RedWeb", "BlueWeb"):
            probes.query(lab, node, SQL, MARKER)
    seen = "IKE and ESP" if recording.packets("esp or udp port 4500") else "nothing"
    clear = len(recording.packets(IN_CLEAR)) + recording.holds(MARKER)
    return f"{seen}, {clear} packets in clear"


def _with_wrong_key(lab: RunningLab) -> Callable[[], str]:
    def attempt() -> str:
        main.fault(lab.topology.name, "wrong-key")
        return _query(lab, "RedWeb")

    return attempt


def _with_right_key(lab: RunningLab) -> Callable[[], str]:
    def attempt() -> str:
        main.fault(lab.topology.name, "wrong-key", undo=True)
        probes.await_tunnels(lab)
        return _query(lab, "RedWeb")

    return attempt


def _reason(lab: RunningLab) -> str:
    error = probes.tunnel(lab, "red", "headquarters")["last_error"]
    return str(error["text"]).partition(",")[0] if error else ""
