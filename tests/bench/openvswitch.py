"""Open vSwitch's userspace datapath as the router of the VXLAN case: AF_XDP ports and a polling thread.

It polls, so it needs a core of its own, and is given one that the generator does not use.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.namespaces import configure, enter, execute
from tests.bench import plan
from tests.bench.plan import Plan
from tests.bench.rig import CORPNET_MAC, EXTERNAL_MAC, HOST_MAC, PROVIDER_MAC, Rig, Router
from tests.bench.traffic import CORE

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_UNDERLAY, _OVERLAY = "br-underlay", "br-overlay"


@dataclass(frozen=True, slots=True)
class _Switch:
    namespace: str
    directory: Path

    def control(self, program: str, *arguments: str, text: str = "") -> None:
        environment = ("env", f"OVS_RUNDIR={self.directory}", f"OVS_DBDIR={self.directory}")
        execute(enter(self.namespace, *environment, program, *arguments), text=text)

    def configure(self, *commands: str) -> None:
        words = " -- ".join(commands).split()
        self.control("ovs-vsctl", f"--db=unix:{self.directory}/db.sock", *words)

    def start(self, program: str, *arguments: str) -> int:
        """Return the process id when the daemon serves: `--detach` leaves the foreground only then."""
        file = self.directory / f"{program}.pid"
        options = (f"--pidfile={file}", f"--unixctl={self.directory / program}.ctl", f"--log-file={file}.log")
        self.control("nice", "-n", "-20", program, *arguments, *options, "-vconsole:off", "--detach", "--no-chdir")
        return int(file.read_text())


def add_openvswitch(rig: Rig, policy: Plan, directory: Path) -> Router:
    router = rig.add("ovs")
    switch = _Switch(router.namespace, directory)
    database = str(directory / "conf.db")
    execute(["ovsdb-tool", "create", database, _SCHEMA])
    server = switch.start("ovsdb-server", database, f"--remote=punix:{directory}/db.sock")
    rig.lifetime.callback(os.kill, server, signal.SIGTERM)
    daemon = switch.start("ovs-vswitchd", f"unix:{directory}/db.sock")
    rig.lifetime.callback(os.kill, daemon, signal.SIGTERM)
    switch.configure(*_bridges())
    configure(
        router.namespace,
        [
            f"link set {_UNDERLAY} up",
            f"addr add {plan.GATEWAY_PA}/{plan.PROVIDER_NETWORK.prefixlen} dev {_UNDERLAY}",
        ],
    )
    flows = "\n".join([*_to_corpnet(policy), *_to_vms(policy)])
    management = f"unix:{directory / _OVERLAY}.mgmt"
    switch.control("ovs-ofctl", "-O", "OpenFlow13", "--names", "add-flows", management, "-", text=flows)
    for host in range(policy.hosts):
        neighbour = (_UNDERLAY, str(policy.provider_address(host)), HOST_MAC)
        switch.control("ovs-appctl", "-t", f"{directory}/ovs-vswitchd.ctl", "tnl/neigh/set", *neighbour)
    return router


def _bridges() -> Iterator[str]:
    """Make two bridges; the underlay one has the provider address, and tunnels leave through it."""
    polling_cores = sum(1 << core for core in os.sched_getaffinity(0) - {CORE})
    userspace, port = "datapath_type=netdev", "type=afxdp options:xdp-mode=native"
    yield "init"
    yield f"set open_vswitch . other_config:pmd-cpu-mask={polling_cores:#x}"
    yield f"add-br {_UNDERLAY}"
    yield f'set bridge {_UNDERLAY} {userspace} other_config:hwaddr="{PROVIDER_MAC}"'
    yield f"add-br {_OVERLAY}"
    yield f"set bridge {_OVERLAY} {userspace} fail_mode=secure protocols=OpenFlow13"
    yield f"add-port {_UNDERLAY} provider"
    yield f"set interface provider {port}"
    yield f"add-port {_OVERLAY} external"
    yield f"set interface external {port}"
    yield f"add-port {_OVERLAY} vxlan"
    yield "set interface vxlan type=vxlan options:remote_ip=flow options:key=flow"


def _to_corpnet(policy: Plan) -> Iterator[str]:
    for domain in range(policy.domains):
        tag = f"push_vlan:0x8100,set_field:{0x1000 | domain + 1}->vlan_vid"
        actions = f"dec_ttl,mod_dl_src:{EXTERNAL_MAC},mod_dl_dst:{CORPNET_MAC},{tag},output:external"
        for subnet in range(plan.SUBNETS):
            yield f"in_port=vxlan,tun_id={policy.vsid(domain, subnet)},ip,actions={actions}"


def _to_vms(policy: Plan) -> Iterator[str]:
    router_mac = plan.ROUTER_MAC.replace("-", ":")
    for domain in range(policy.domains):
        for record in range(policy.records_per_domain):
            mac = policy.mac(domain, record).replace("-", ":")
            vsid, host = policy.vsid(domain, record % plan.SUBNETS), policy.host(domain, record)
            tunnel = f"set_field:{vsid}->tun_id,set_field:{policy.provider_address(host)}->tun_dst,output:vxlan"
            match = f"in_port=external,dl_vlan={domain + 1},ip,nw_dst={policy.customer_address(domain, record)}"
            yield f"{match},actions=dec_ttl,pop_vlan,mod_dl_src:{router_mac},mod_dl_dst:{mac},{tunnel}"
