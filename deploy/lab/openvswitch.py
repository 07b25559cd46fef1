"""One Open vSwitch with daemons and a directory of its own: the user-space datapath, which needs no kernel module."""

from dataclasses import dataclass
from pathlib import Path

from deploy.lab.namespaces import configure, enter, execute
from deploy.lab.processes import Processes
from deploy.lab.topology import Host, Lab, Machine

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
PROVIDER_BRIDGE = "br-provider"
OVERLAY_BRIDGE = "br-overlay"
FLOW_IDS = 256


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch in a namespace; its bridges are made by the methods."""

    name: str
    namespace: str
    directory: Path
    processes: Processes

    def start(self) -> None:
        self.directory.mkdir()
        database = str(self.directory / "conf.db")
        execute(["ovsdb-tool", "create", database, SCHEMA])
        self._daemon("ovsdb-server", database, f"--remote=punix:{self._database_socket}")
        self._control("ovs-vsctl", "--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{self._database_socket}")

    def take_uplink(self, interface: str, address: str, mtu: int) -> None:
        """Move the provider address to the bridge's own interface, which tunnels leave through."""
        bridge = f"add-br {PROVIDER_BRIDGE} -- set bridge {PROVIDER_BRIDGE} datapath_type=netdev"
        port = f"add-port {PROVIDER_BRIDGE} {interface}"
        self._control("ovs-vsctl", *f"{bridge} -- {port} -- set interface {PROVIDER_BRIDGE} mtu_request={mtu}".split())
        configure(self.namespace, [f"link set {PROVIDER_BRIDGE} up", f"addr add {address} dev {PROVIDER_BRIDGE}"])

    def build_overlay(self, lab: Lab, host: Host) -> None:
        local = [machine for machine in host.machines if machine.encapsulation == "nvgre"]
        bridge = f"add-br {OVERLAY_BRIDGE} -- set bridge {OVERLAY_BRIDGE} datapath_type=netdev fail_mode=secure"
        tunnel = (
            f"add-port {OVERLAY_BRIDGE} nvgre -- set interface nvgre type=gre "
            f"options:local_ip={host.provider_address} options:remote_ip=flow options:key=flow"
        )
        ports = [f"add-port {OVERLAY_BRIDGE} {machine.name}" for machine in local]
        self._control("ovs-vsctl", *" -- ".join([bridge, tunnel, *ports]).split())
        flows = "\n".join(nvgre_flows(lab, host, local))
        self._control("ovs-ofctl", "--names", "add-flows", self._management(OVERLAY_BRIDGE), "-", text=flows)

    def _daemon(self, program: str, *arguments: str) -> None:
        """Start a daemon and return when it serves: `--detach` leaves the foreground only then."""
        pid_file = self.directory / f"{program}.pid"
        log = self.directory / f"{program}.log"
        options = (
            f"--pidfile={pid_file}",
            f"--unixctl={self.directory / program}.ctl",
            f"--log-file={log}",
            "-vconsole:off",
        )
        self._control(program, *arguments, *options, "--detach", "--no-chdir")
        self.processes.record(f"{self.name}-{program}", int(pid_file.read_text()))

    def _control(self, program: str, *arguments: str, text: str = "") -> str:
        environment = ("env", f"OVS_RUNDIR={self.directory}", f"OVS_DBDIR={self.directory}")
        database = (f"--db=unix:{self._database_socket}",) if program == "ovs-vsctl" else ()
        return execute(enter(self.namespace, *environment, program, *database, *arguments), text=text)

    @property
    def _database_socket(self) -> Path:
        return self.directory / "db.sock"

    def _management(self, bridge: str) -> str:
        return f"unix:{self.directory / bridge}.mgmt"


def nvgre_flows(lab: Lab, host: Host, local: list[Machine]) -> list[str]:
    """OpenFlow of the overlay bridge: key = VSID << 8 | FlowID, where FlowID differs from flow to flow (RFC 7637)."""
    flows = []
    for machine in local:
        key = machine.vsid << 8
        flows.append(
            f"priority=30,in_port=nvgre,tun_id={key}/0xffffff00,dl_dst={machine.mac},actions=output:{machine.name}"
        )
        flows.append(
            f"priority=10,in_port={machine.name},actions={_tunnel_to(lab.gateway_provider_address, machine.vsid)}"
        )
        for other in lab.machines:
            if other.vsid == machine.vsid and other is not machine:
                here = other.provider_address == host.provider_address
                action = f"output:{other.name}" if here else _tunnel_to(other.provider_address, other.vsid)
                flows.append(f"priority=20,in_port={machine.name},dl_dst={other.mac},actions={action}")
    return flows


def _tunnel_to(provider_address: str, vsid: int) -> str:
    flow_id = f"multipath(symmetric_l4,0,modulo_n,{FLOW_IDS},0,NXM_NX_TUN_ID[0..7])"
    return f"load:{vsid}->NXM_NX_TUN_ID[8..31],{flow_id},set_field:{provider_address}->tun_dst,output:nvgre"
