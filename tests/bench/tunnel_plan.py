"""Which addresses the benchmark's tunnels have: one for each domain, a VM at one end and a server at the other."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from tests.bench import plan
from tests.bench.policies import Document, domain_id

HOST_PA = "192.168.100.1"
FIRST_VSID = 7000
SITE_ADDRESS = "203.0.113.20"
SECRET = "a-secret-of-the-benchmark"
FIRST_OUTSIDE = int(IPv4Address("198.51.100.20"))
MOST_TUNNELS = 200
PLAIN = 250  # the tunnel that has no datapath of ours at its end


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Tunnel `number`, from 1 on: 10.number.1.0/24 in the cloud, 10.number.2.0/24 at the site."""

    number: int

    @property
    def name(self) -> str:
        return f"tunnel{self.number}"

    @property
    def domain_id(self) -> str:
        return domain_id(self.number)

    @property
    def vsid(self) -> int:
        return FIRST_VSID + self.number

    @property
    def cloud(self) -> IPv4Network:
        return IPv4Network((f"10.{self.number}.1.0", 24))

    @property
    def site(self) -> IPv4Network:
        return IPv4Network((f"10.{self.number}.2.0", 24))

    @property
    def router(self) -> IPv4Address:
        return self.cloud[1]

    @property
    def vm(self) -> IPv4Address:
        return self.cloud[11]

    @property
    def server(self) -> IPv4Address:
        return self.site[10]

    @property
    def mac(self) -> str:
        return f"02:00:00:00:02:{self.number:02x}"

    @property
    def outside(self) -> str:
        """The gateway's own address of this tunnel."""
        return str(IPv4Address(FIRST_OUTSIDE + self.number))

    @property
    def identities(self) -> tuple[str, str]:
        """Name the gateway and the site, as they call themselves."""
        return f"cloud.{self.name}.example", f"site.{self.name}.example"


def document(tunnels: list[Tunnel]) -> Document:
    """Return the policy of a routing domain for each tunnel."""
    address = {"address": HOST_PA, "prefix_length": plan.PROVIDER_NETWORK.prefixlen}
    hosts = [{"id": "host", "provider_addresses": [address], "southbound": "none"}]
    return {"hosts": hosts, "routing_domains": [domain(tunnel) for tunnel in tunnels]}


def domain(tunnel: Tunnel) -> Document:
    """Return a routing domain with one VM and one tunnel."""
    ours, theirs = tunnel.identities
    record = {"vsid": tunnel.vsid, "customer_address": str(tunnel.vm), "mac": tunnel.mac.replace(":", "-")}
    connection = {
        "name": "site",
        "type": "ipsec",
        "local_address": tunnel.outside,
        "remote_address": SITE_ADDRESS,
        "local_id": ours,
        "remote_id": theirs,
        "authentication": {"method": "psk", "secret": SECRET},
        "traffic_selectors": {"local": [str(tunnel.cloud)], "remote": [str(tunnel.site)]},
        "routes": [{"prefix": str(tunnel.site)}],
    }
    return {
        "id": tunnel.domain_id,
        "name": tunnel.name,
        "tenant": tunnel.name,
        "virtual_subnets": [{"vsid": tunnel.vsid, "prefixes": [str(tunnel.cloud)]}],
        "lookup_records": [record | {"provider_address": HOST_PA, "encapsulation": "vxlan"}],
        "network_connections": [connection],
    }
