"""The rows of IPsec tunnels: how soon they are up, how many, what they lose, how much they carry."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from deploy.lab.namespaces import enter, execute
from deploy.lab.processes import listens, wait_until
from gateway.compartments.names import names_of
from tests.bench import tunnel_plan
from tests.bench.daemon import NAME, Daemon, as_body
from tests.bench.figures import Bound, Figure
from tests.bench.pings import Prober
from tests.bench.strongswan import negotiated_ms
from tests.bench.tunnel_plan import MOST_TUNNELS, Tunnel
from tests.bench.tunnel_rig import CLOUD, GATEWAY, SITE, TunnelRig

AT_ONCE, ALTOGETHER = 5, MOST_TUNNELS
REKEYINGS = 10
ROUNDS, SECONDS, IPERF_PORT = 9, 2, 5201  # of a TCP flow
EVERY = 0.001  # seconds between pings
PATIENCE = 60.0


def tunnels(directory: Path, lifetime: ExitStack) -> Iterator[Figure]:
    """Run all of them against gateways without any policy before."""
    rig = TunnelRig(directory, lifetime)
    prober = Prober(CLOUD)
    lifetime.callback(prober.close)
    with ExitStack() as first:
        daemon = Daemon(GATEWAY, directory.parent / "one", first, "internet")
        yield from _pushed_one_by_one(rig, prober, daemon)
        yield _killed(prober, rig.tunnels[:AT_ONCE])
        yield _rekeyed(rig, prober, rig.tunnels[0])
        yield _carried(rig, prober, rig.tunnels[0])
    with ExitStack() as second:
        yield from _pushed_together(rig, prober, Daemon(GATEWAY, directory.parent / "all", second, "internet"))


def _pushed_one_by_one(rig: TunnelRig, prober: Prober, daemon: Daemon) -> Iterator[Figure]:
    took, negotiated = [], []
    for tunnel in rig.tunnels[:AT_ONCE]:
        with prober.pinging(tunnel.server, EVERY) as pings:
            began = time.monotonic()
            daemon.put(f"/v1/routing-domains/{tunnel.domain_id}", as_body(tunnel_plan.domain(tunnel)))
            wait_until(lambda: bool(pings.answered), f"{tunnel.name} carries", PATIENCE)  # noqa: B023
        took.append((min(pings.answered.values()) - began) * 1000)
        negotiated.append(negotiated_ms(rig.site, tunnel))
    first, _, third = quantiles(took, n=4)
    remark = f"IKE itself {median(negotiated):.0f} ms; of {len(took)} domains in turn, the first {took[0]:,.0f} ms"
    name = "a tunnel from policy push to the first reply from the far side"
    yield Figure(name, median(took), "ms", Bound(250, "at most"), (first, third), remark)


def _killed(prober: Prober, tunnels: list[Tunnel]) -> Figure:
    """Kill each once: one that keeps ending is not started again at once."""
    gaps = []
    for tunnel in tunnels:
        charon = _charon(tunnel)
        with prober.pinging(tunnel.server, EVERY) as pings:
            wait_until(lambda: bool(pings.answered), f"{tunnel.name} carries", PATIENCE)  # noqa: B023
            os.kill(charon, signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda: max(pings.answered.values(), default=0) > killed + 1, "replies are back", PATIENCE)  # noqa: B023
        gaps.append(pings.longest_gap())
    name = "gap after kill -9 of a charon"
    remark = f"the worst of {len(gaps)}, median {median(gaps):.2f} s"
    return Figure(name, max(gaps), "s", Bound(0.3, "at most"), remark=remark)


def _rekeyed(rig: TunnelRig, prober: Prober, tunnel: Tunnel) -> Figure:
    with prober.pinging(tunnel.server, EVERY) as pings:
        for _ in range(REKEYINGS):
            for kind in ("--child", "--ike"):
                rig.site.control("--rekey", kind, tunnel.name)
                time.sleep(0.1)  # under the old keys, and under the new ones
    rate = len(pings.sent) / (max(pings.sent.values()) - min(pings.sent.values()))
    name = f"packets lost in {REKEYINGS} rekeyings each of CHILD_SA and IKE_SA"
    remark = f"of {len(pings.sent):,}, {rate:,.0f} a second"
    return Figure(name, pings.lost, "packets", Bound(0, "at most"), remark=remark)


def _carried(rig: TunnelRig, prober: Prober, tunnel: Tunnel) -> Figure:
    rig.plain_gateway.control("--initiate", "--child", rig.plain.name)
    prober.first_answers([rig.plain.server], EVERY, PATIENCE)
    pairs = [(_flow(rig, tunnel), _flow(rig, rig.plain)) for _ in range(ROUNDS)]
    ratios = [ours / plain for ours, plain in pairs]
    first, _, third = quantiles(ratios, n=4, method="inclusive")
    mbps = " against ".join(f"{median(one) / 1e6:,.0f}" for one in zip(*pairs, strict=True))
    name = "TCP through VXLAN and ESP, against strongSwan and Linux's VXLAN without our datapath"
    return Figure(name, median(ratios), "of plain strongSwan", Bound(0.9), (first, third), f"{mbps} Mbit/s")


def _flow(rig: TunnelRig, tunnel: Tunnel) -> float:
    """Return the bits a second of a TCP flow from the VM to the server. Errors: RuntimeError."""
    server = rig.processes.start("iperf3", SITE, "iperf3", "--server", "--one-off")
    rig.processes.wait(server, partial(listens, server, IPERF_PORT), "listened")
    command = ("iperf3", "--json", "--client", str(tunnel.server), "--bind", str(tunnel.vm), "--time", str(SECONDS))
    report = json.loads(execute(enter(CLOUD, *command)))
    if "error" in report:
        raise RuntimeError(f"iperf3 from {tunnel.vm} to {tunnel.server}: {report['error']}")
    wait_until(lambda: not server.runs(), "iperf3 has ended")
    return float(report["end"]["sum_received"]["bits_per_second"])


def _pushed_together(rig: TunnelRig, prober: Prober, daemon: Daemon) -> Iterator[Figure]:
    before = daemon.resident_mb()
    body = as_body(tunnel_plan.document(rig.tunnels))
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(daemon.put, "/v1/policy", body)
        answered = prober.first_answers((tunnel.server for tunnel in rig.tunnels), 0.05, PATIENCE)
        programmed = pushed.result()
    name = f"{ALTOGETHER} domains with a tunnel each, from an empty gateway until all carry"
    remark = f"programmed after {programmed:.1f} s; of 2 cores that the far side shares"
    yield Figure(name, max(answered.values()) - began, "s", Bound(8, "at most"), remark=remark)
    private = [_private_mb(_charon(tunnel)) for tunnel in rig.tunnels]
    own = (daemon.resident_mb() - before) / ALTOGETHER
    remark = f"a charon {median(private):.1f} MB, at most {max(private):.1f}; of the gateway's daemon {own:.2f} MB"
    name = f"private memory of an idle domain with a tunnel, {ALTOGETHER} domains"
    yield Figure(name, median(private) + own, "MB", Bound(5, "at most"), remark=remark)


def _charon(tunnel: Tunnel) -> int:
    """Return the process of the gateway's strongSwan for a domain, once there is one."""
    compartment = names_of(NAME, tunnel.domain_id).namespace
    found: list[int] = []

    def runs() -> bool:
        found[:] = map(int, execute(["ip", "netns", "pids", compartment]).split())
        return len(found) == 1

    wait_until(runs, f"{tunnel.name} has its charon", PATIENCE)
    return found[0]


def _private_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) * 1024 / 1e6
