"""`tgw lab up hybrid-cloud` in an emulated machine: both tenants' tunnels carry; outside there is but ESP and IKE."""

import time

from deploy.lab import main as lab
from deploy.lab import probes
from deploy.lab.recording import recorded
from deploy.lab.running import RunningLab

NAME = "hybrid-cloud"
MARKER = "how-much-is-the-fish"
CLEAR = "ip and not esp and not udp port 500"
PAGES = {
    ("RedWeb", "10.1.1.12"): "red red-hq-server",
    ("RedWeb", "10.3.0.10"): "red red-branch-server",
    ("BlueWeb", "10.1.1.12"): "blue blue-hq-server",
    ("red-hq-server", "10.1.1.11"): "red RedWeb",
    ("red-branch-server", "10.1.6.21"): "red RedApp",
    ("blue-hq-server", "10.1.1.11"): "blue BlueWeb",
}


def main() -> None:
    began = time.monotonic()
    running = lab.up(NAME, lambda words: print(f"{time.monotonic() - began:4.0f} s  {words}", flush=True))
    look(running)
    lab.down(NAME)


def look(running: RunningLab) -> None:
    status = probes.status(running)
    assert status["ipsec"]["backend"] == "kernel-netlink", status["ipsec"]
    print(f"ESP by {status['ipsec']['backend']}: {status['ipsec']['why']}")
    for domain in status["routing_domains"]:
        for tunnel in domain["tunnels"]:
            assert (tunnel["state"], tunnel["udp_encapsulated"]) == ("connected", False), tunnel
            print(f"{domain['name']}/{tunnel['name']}: {tunnel['esp_suite']}, {tunnel['text']}")
    with recorded(running, "internet") as outside, recorded(running, "red-hq", "eth1") as inside:
        for (node, address), whose in PAGES.items():
            found = probes.page(running, node, address, path=f"?{MARKER}", seconds=30)
            assert found == whose, f"{node} got {found!r} from {address}"
            print(f"{node} got the page of {found} at {address}", flush=True)
    assert inside.holds(MARKER), "what would show a word in clear shows none where there is one"
    assert not outside.holds(MARKER)
    assert outside.packets("esp")
    assert outside.packets(CLEAR) == []


if __name__ == "__main__":
    main()
