"""One Open vSwitch with daemons and a directory of its own: the user-space datapath, which needs no kernel module."""

import socket
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.processes import sockets_of
from deploy.lab.running import RunningLab
from deploy.lab.stream import SO_RCVBUFFORCE
from deploy.lab.topology import Host, Lab, Machine

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
PROVIDER_BRIDGE = "br-provider"
OVERLAY_BRIDGE = "br-overlay"
FLOW_IDS = 256
RECEIVE_BUFFER_BYTES, QUEUE_PACKETS = 4 << 20, 5_000  # seconds of small packets


@dataclass(frozen=True, slots=True)
class Switch:
    """The switch of a node; its bridges are made by the methods."""

    lab: RunningLab
    node: str

    @property
    def directory(self) -> Path:
        return self.lab.directory / self.node

    def start(self) -> None:
        self.directory.mkdir()
        database = str(self.directory / "conf.db")
        self._control("ovsdb-tool", "create", database, SCHEMA)
        self._daemon("ovsdb-server", database, f"--remote=punix:{self._database_socket}")
        self._control("ovs-vsctl", "--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{self._database_socket}")

    def add_bridge(self, bridge: str, *ports: str, settings: str = "") -> None:
        """Make a bridge with ports; a port may be followed by settings, as in "eth0 tag=20"."""
        commands = [f"add-br {bridge} -- set bridge {bridge} datapath_type=netdev {settings}"]
        self._control("ovs-vsctl", *" -- ".join([*commands, *(f"add-port {bridge} {port}" for port in ports)]).split())
        self._give_room()

    def add_port(self, bridge: str, port: str) -> None:
        self._control("ovs-vsctl", *f"add-port {bridge} {port}".split())
        self._give_room()

    def take_uplink(self, interface: str, address: str, mtu: int) -> None:
        """Move the provider address to the bridge's own interface, which tunnels leave through."""
        self.add_bridge(PROVIDER_BRIDGE, f"{interface} -- set interface {PROVIDER_BRIDGE} mtu_request={mtu}")
        commands = (
            f"link set {PROVIDER_BRIDGE} up txqueuelen {QUEUE_PACKETS}",
            f"addr add {address} dev {PROVIDER_BRIDGE}",
        )
        self.lab.configure(self.node, *commands)

    def build_overlay(self, host: Host) -> None:
        local = [machine for machine in host.machines if machine.encapsulation == "nvgre"]
        options = f"options:local_ip={host.provider_address} options:remote_ip=flow options:key=flow"
        tunnel = f"nvgre -- set interface nvgre type=gre {options}"
        ports = (machine.name for machine in local)
        self.add_bridge(OVERLAY_BRIDGE, tunnel, *ports, settings="fail_mode=secure")
        flows = "\n".join(nvgre_flows(self.lab.topology, host, local))
        self._control("ovs-ofctl", "--names", "add-flows", self._management(OVERLAY_BRIDGE), "-", text=flows)

    def _give_room(self) -> None:
        """Let its sockets hold what comes while its only thread waits for a CPU: some hundred packets are little."""
        for one in sockets_of(self.lab.processes.find(f"{self.node}-ovs-vswitchd")):
            if one.family == socket.AF_PACKET:
                one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)

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
        self.lab.processes.record(f"{self.node}-{program}", int(pid_file.read_text()))

    def _control(self, program: str, *arguments: str, text: str = "") -> str:
        environment = ("env", f"OVS_RUNDIR={self.directory}", f"OVS_DBDIR={self.directory}")
        database = (f"--db=unix:{self._database_socket}",) if program == "ovs-vsctl" else ()
        return self.lab.run(self.node, *environment, program, *database, *arguments, text=text)

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
    destination = "tun_ipv6_dst" if ":" in provider_address else "tun_dst"
    return f"load:{vsid}->NXM_NX_TUN_ID[8..31],{flow_id},set_field:{provider_address}->{destination},output:nvgre"
