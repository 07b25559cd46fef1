"""The gateway's unit in a machine that systemd runs: started, restarted under traffic, stopped.

A VM behind a VXLAN host, a site behind plain strongSwan, and the gateway between them, under the unit as it is shipped.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.policy.model import ConnectionRoute, IpsecConnection, PskAuthentication, TrafficSelectors
from gateway.policy.secret import Secret
from vpn.kernel import Backend

sys.path.insert(0, "tests/lab/vpn")
from vpn_rig import SECRET, Namespace, Site, swanctl, until  # noqa: E402

UNIT = "tenant-gateway.service"
SHIPPED = Path("deploy/systemd") / UNIT
UNITS = Path("/etc/systemd/system")
INSTALLED = Path("/opt/tenant-gateway/.venv/bin/tgw")
CONFIGURATION = Path("/etc/tenant-gateway/gateway.toml")
STATE = Path("/var/lib/tenant-gateway")
ROUTER_MAC = "00-1d-d8-b7-1c-00"
SETTINGS = f"""\
name = "gateway1"
state_dir = "{STATE}"
router_mac = "{ROUTER_MAC}"
[datapath]
memory_mb = 16
[[ports]]
name = "provider"
role = "provider"
interface = "provider"
addresses = ["192.168.6.2/24"]
[[ports]]
name = "internet"
role = "external"
interface = "internet"
addresses = ["198.51.100.1/24"]
"""
VM, MAC, SERVER = "10.1.1.11", "10-10-10-10-11-11", "10.2.0.10"
TUNNEL = IpsecConnection(
    name="headquarters",
    local_address="198.51.100.10",
    remote_address="198.51.100.20",
    local_id="gateway.example",
    remote_id="hq.example",
    authentication=PskAuthentication(Secret(SECRET)),
    traffic_selectors=TrafficSelectors(("10.1.1.0/24",), ("10.2.0.0/24",)),
    routes=(ConnectionRoute("10.2.0.0/24"),),
)
POLICY = {
    "routing_domains": [
        {
            "id": "11111111-2222-3333-4444-000000000001",
            "name": "blue",
            "virtual_subnets": [{"vsid": 6001, "prefixes": ["10.1.1.0/24"]}],
            "lookup_records": [
                {
                    "vsid": 6001,
                    "customer_address": VM,
                    "mac": MAC,
                    "provider_address": "192.168.6.4",
                    "encapsulation": "vxlan",
                }
            ],
            "network_connections": [
                {
                    "name": TUNNEL.name,
                    "type": "ipsec",
                    "local_address": TUNNEL.local_address,
                    "remote_address": TUNNEL.remote_address,
                    "local_id": TUNNEL.local_id,
                    "remote_id": TUNNEL.remote_id,
                    "authentication": {"method": "psk", "secret": SECRET},
                    "traffic_selectors": {"local": ["10.1.1.0/24"], "remote": ["10.2.0.0/24"]},
                }
            ],
        }
    ]
}
_BEGAN = time.monotonic()


def main() -> None:
    host, site = lay_network()
    install()
    systemctl("start", UNIT)  # returns when the daemon has said that it is ready
    assert show("ActiveState", "SubState", "NRestarts") == ["active", "running", "0"], log()
    told("started")
    look_at_confinement(int(*show("MainPID")))
    Path("/tmp/policy.json").write_text(json.dumps(POLICY))
    tgw("policy", "apply", "/tmp/policy.json")
    until(lambda: tunnel()["state"] == "connected", f"the tunnel is {tunnel()['text']}\n{log()}")
    until(lambda: host.replies(SERVER) == 3, "the VM does not reach the server")
    told(f"the tunnel carries, by {status()['ipsec']['backend']}")
    restart_under_traffic(host)
    systemctl("stop", UNIT)
    assert show("ActiveState", "Result") == ["inactive", "success"], log()
    assert host.replies(SERVER) == 3
    told("stopped; packets flow on")
    site.stop()


def lay_network() -> tuple[Namespace, Site]:
    """Lay the machine's two interfaces, and beyond them a host with a VM and a site with a server."""
    host, far = Namespace("host"), Namespace("site")
    for interface, beyond in (("provider", host), ("internet", far)):
        run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", beyond.name)
        run("ip", "link", "set", interface, "up")
        beyond.ip("link set eth0 up")
        beyond.run("ethtool -K eth0 gro on tx off")  # to take what XDP redirects to it, and send whole checksums
    run("ip", "address", "add", "192.168.6.2/24", "dev", "provider")
    host.ip("address add 192.168.6.4/24 dev eth0")
    host.ip("link add vxlan0 type vxlan id 6001 local 192.168.6.4 dstport 4789 nolearning")
    host.run("bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst 192.168.6.2")
    host.ip(f"link set vxlan0 address {MAC.replace('-', ':')} mtu 1400 up")
    host.ip(f"address add {VM}/24 dev vxlan0")
    host.ip(f"neighbour add 10.1.1.1 lladdr {ROUTER_MAC.replace('-', ':')} dev vxlan0")
    host.ip("route add default via 10.1.1.1")
    far.forward()
    far.ip(f"address add {TUNNEL.remote_address}/24 dev eth0")
    far.ip(f"address add {SERVER} dev lo")
    site = Site("hq", far, Path(tempfile.mkdtemp()), Backend(False, ""))
    site.start(swanctl(TUNNEL, local_ts="10.2.0.0/24", remote_ts="10.1.1.0/24"))
    return host, site


def install() -> None:
    """Put the unit, the program and the configuration where docs/operations.md has them."""
    INSTALLED.parent.mkdir(parents=True)
    INSTALLED.symlink_to("/usr/bin/tgw")
    CONFIGURATION.parent.mkdir(parents=True)
    CONFIGURATION.write_text(SETTINGS)
    (UNITS / UNIT).write_text(SHIPPED.read_text())
    additions = UNITS / f"{UNIT}.d" / "emulated.conf"  # where an installed machine has a virtual environment
    additions.parent.mkdir()
    environment = (f"Environment={name}={os.environ[name]}" for name in ("PYTHONPATH", "TGW_BUILD_DIR"))
    additions.write_text("\n".join(("[Service]", *environment, "")))
    systemctl("daemon-reload")


def look_at_confinement(pid: int) -> None:
    """Ask the kernel what the daemon may do."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    held = dict(line.split(":\t", 1) for line in lines)
    capabilities = [number for number in range(64) if int(held["CapBnd"], 16) >> number & 1]
    assert capabilities == [10, 12, 13, 21, 23]  # NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_ADMIN, SYS_NICE
    assert (held["CapEff"], held["NoNewPrivs"], held["Seccomp"]) == (held["CapBnd"], "1", "2"), held
    assert STATE.stat().st_mode & 0o777 == 0o700
    told(f"it runs with capabilities {held['CapEff']} and {held['Seccomp_filters']} system call filters")


def restart_under_traffic(host: Namespace) -> None:
    before, daemon = charons(), show("MainPID")
    assert before
    sender = host.start(f"ping -n -i 0.05 {SERVER}")
    systemctl("restart", UNIT)
    until(lambda: tunnel()["state"] == "connected", "the tunnel was not adopted")
    sender.send_signal(2)
    counted = sender.communicate()[0].splitlines()[-2]
    assert ", 0% packet loss" in counted, counted
    assert show("ActiveState", "NRestarts") == ["active", "0"], log()
    assert (charons(), show("MainPID") != daemon) == (before, True)
    told(f"restarted: {counted}")


def charons() -> list[int]:
    """Return the tunnels' daemons of the unit's control group."""
    (group,) = show("ControlGroup")
    pids = map(int, Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split())
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().startswith("charon")]


def status() -> dict[str, object]:
    return json.loads(tgw("status", "--json"))


def tunnel() -> dict[str, str]:
    (domain,) = status()["routing_domains"]  # type: ignore[misc]
    (found,) = domain["tunnels"]
    return found


def tgw(*arguments: str) -> str:
    return run(str(INSTALLED), "--config", str(CONFIGURATION), *arguments)


def systemctl(*arguments: str) -> str:
    return run("systemctl", "--no-pager", *arguments)


def show(*properties: str) -> list[str]:
    """Return properties of the unit, in this order."""
    return [systemctl("show", UNIT, "--value", f"--property={name}").strip() for name in properties]


def log() -> str:
    return systemctl("status", "--full", "--lines=100", UNIT)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{log() if command[0] != 'systemctl' else ''}"
    return done.stdout


def told(words: str) -> None:
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {words}", flush=True)


if __name__ == "__main__":
    main()
