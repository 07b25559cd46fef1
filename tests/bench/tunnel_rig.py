"""The rig of tunnels: VMs of all tenants on one host, a gateway, and a site that plain strongSwan guards.

bench-cloud: VMs ═ VXLAN ═ provider : bench-vpn : external ═══ bench-site: strongSwan, servers
              └─── VXLAN ═ provider : bench-plain (strongSwan, Linux's VXLAN) : external ═══ ┘
"""

from contextlib import ExitStack
from pathlib import Path

from deploy.lab.namespaces import configure, connect, create, remove, set_sysctls
from deploy.lab.processes import Processes
from deploy.lab.strongswan import StrongSwan
from tests.bench import plan
from tests.bench.programs import Programs
from tests.bench.rig import MTU, Router
from tests.bench.strongswan import Connection, started
from tests.bench.tunnel_plan import HOST_PA, MOST_TUNNELS, PLAIN, SITE_ADDRESS, Tunnel

CLOUD, SITE = "bench-cloud", "bench-site"
GATEWAY, PLAIN_GATEWAY = Router("vpn", {}), Router("plain", {})
PLAIN_PA, PLAIN_HOST_PA = "192.168.7.2", "192.168.7.1"
_ROUTER_MAC = plan.ROUTER_MAC.replace("-", ":")
_VM_MTU = 1500


class TunnelRig:
    """All that it makes is gone when `lifetime` ends."""

    def __init__(self, directory: Path, lifetime: ExitStack) -> None:
        directory.mkdir()
        self.tunnels = [Tunnel(number + 1) for number in range(MOST_TUNNELS)]
        self.plain = Tunnel(PLAIN)
        self.processes = Processes(directory)
        for namespace in (CLOUD, SITE, GATEWAY.namespace, PLAIN_GATEWAY.namespace):
            remove(namespace)
            create(namespace)
            lifetime.callback(remove, namespace)
            set_sysctls(namespace, ipv4__conf__all__rp_filter=0, ipv4__conf__default__rp_filter=0)
        lifetime.callback(self.processes.end_all)
        programs = Programs("sink", lifetime)
        for gateway in (GATEWAY, PLAIN_GATEWAY):
            connect((gateway.namespace, "provider"), (CLOUD, gateway.name), mtu=MTU)
            connect((gateway.namespace, "external"), (SITE, gateway.name))
            for namespace in (CLOUD, SITE):  # a veth without XDP takes nothing that XDP sends, or with GRO too late
                programs.attach("pass", namespace, gateway.name)
        self._address()
        for tunnel in self.tunnels:
            self._add_vm(tunnel, HOST_PA, plan.GATEWAY_PA, _ROUTER_MAC)
        self._make_plain_gateway()
        self.site = StrongSwan(SITE, directory / "site")
        at_site = [Connection(tunnel, at_site=True) for tunnel in (*self.tunnels, self.plain)]
        started(self.site, self.processes, at_site)
        self.plain_gateway = StrongSwan(PLAIN_GATEWAY.namespace, directory / "plain")
        started(self.plain_gateway, self.processes, [Connection(self.plain, at_site=False)])

    def _address(self) -> None:
        configure(GATEWAY.namespace, [f"addr add {plan.GATEWAY_PA}/16 dev provider"])
        configure(CLOUD, [f"addr add {HOST_PA}/16 dev vpn", f"addr add {PLAIN_HOST_PA}/24 dev plain"])
        servers = (f"addr add {tunnel.server}/32 dev lo" for tunnel in (*self.tunnels, self.plain))
        configure(
            SITE,
            [
                f"addr add {plan.INTERNET_NEXT_HOP}/24 dev vpn",
                "addr add 198.51.101.254/24 dev plain",
                f"addr add {SITE_ADDRESS}/32 dev lo",
                *servers,
            ],
        )

    def _add_vm(self, tunnel: Tunnel, host: str, gateway: str, router_mac: str) -> None:
        device = f"vx{tunnel.vsid}"
        options = f"id {tunnel.vsid} local {host} remote {gateway} dstport {plan.VXLAN_PORT} nolearning"
        configure(
            CLOUD,
            [
                f"link add {device} address {tunnel.mac} mtu {_VM_MTU} type vxlan {options}",
                f"link set {device} up",
                f"addr add {tunnel.vm}/{tunnel.cloud.prefixlen} dev {device}",
                f"neigh replace {tunnel.router} lladdr {router_mac} dev {device} nud permanent",
                f"route add {tunnel.site} via {tunnel.router}",
            ],
        )

    def _make_plain_gateway(self) -> None:
        """Let Linux do what our gateway does: end the VXLAN, route into strongSwan's tunnel."""
        self._add_vm(self.plain, PLAIN_HOST_PA, PLAIN_PA, _ROUTER_MAC)
        options = f"local {PLAIN_PA} remote {PLAIN_HOST_PA} dstport {plan.VXLAN_PORT} nolearning"
        set_sysctls(PLAIN_GATEWAY.namespace, ipv4__ip_forward=1)
        configure(
            PLAIN_GATEWAY.namespace,
            [
                f"addr add {PLAIN_PA}/24 dev provider",
                f"addr add {self.plain.outside}/24 dev external",
                "route add default via 198.51.101.254",
                f"link add overlay address {_ROUTER_MAC} mtu {_VM_MTU} type vxlan id {self.plain.vsid} {options}",
                "link set overlay up",
                f"addr add {self.plain.router}/{self.plain.cloud.prefixlen} dev overlay",
                f"neigh replace {self.plain.vm} lladdr {self.plain.mac} dev overlay nud permanent",
            ],
        )
