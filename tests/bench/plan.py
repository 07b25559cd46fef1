"""Which addresses the benchmark gives to whom: what the policy, the generator and the sink share (bpf/plan.h)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

SUBNETS = 2
SUBNET_STRIDE = 1 << 15
SUBNET_PREFIX_LENGTH = 17
RECORD_STRIDE = 16
RULES = 1000
CA_PREFIXES = 250
RULES_PER_REMOTE = 4
PORT_CLASSES = 250
FIRST_PORT = 10000
PORT_STRIDE = 20
MEMBERS = 10
VIP_PORT = 443
MEMBER_PORT = 8443
FLOWS_MAX = 131072
VXLAN_PORT = 4789
FIRST_CA6 = 4
FIRST_VIP6 = 0x10000

FIRST_VSID = 5000
FIRST_CA = int(IPv4Address("10.1.0.4"))
FIRST_PA = int(IPv4Address("192.168.100.1"))
FIRST_REMOTE = int(IPv4Address("20.0.0.0"))
PROVIDER_NETWORK = IPv4Network("192.168.0.0/16")
GATEWAY_PA = "192.168.6.2"
CORPNET_LOCAL = "157.1.0.254"
CORPNET_PREFIX_LENGTH = 16
CORPNET_NEXT_HOP = "157.1.0.1"
INTERNET_LOCAL = "198.51.100.1"
INTERNET_PREFIX_LENGTH = 24
INTERNET_NEXT_HOP = "198.51.100.254"
INTERNET_LOCAL6 = "2001:db8:6::1"
INTERNET_PREFIX_LENGTH6 = 64
INTERNET_NEXT_HOP6 = "2001:db8:6::fe"
FIRST_CLIENT6 = "2001:db8:20::"
FIRST_VIP = int(IPv4Address("198.51.100.100"))
ROUTER_MAC = "00-1d-d8-b7-1c-00"

LONGEST_NESTED = 5  # prefixes of length 28 to 32 that hold one record's CA and no other record's


@dataclass(frozen=True, slots=True)
class Plan:
    """`records` lookup records in all, spread evenly over `domains`, at `hosts` provider addresses.

    Every domain has the same addresses, unless `overlapping` is False (for Linux, whose one routing table cannot tell
    tenants apart). At most 100,000 records in 100 domains. `mixed`: NVGRE to every other host, else VXLAN to all.
    """

    records: int
    domains: int = 100
    hosts: int = 100
    overlapping: bool = True
    mixed: bool = False

    @property
    def records_per_domain(self) -> int:
        return self.records // self.domains

    @property
    def records_per_subnet(self) -> int:
        return self.records_per_domain // SUBNETS

    @property
    def domain_stride(self) -> int:
        """Addresses between the CAs of two domains."""
        return 0 if self.overlapping else SUBNETS * SUBNET_STRIDE

    @property
    def sharing_shift(self) -> int:
        """2 to this power records of a subnet share a CA prefix of an access list."""
        return max(0, (self.records_per_subnet - 1) // CA_PREFIXES).bit_length()

    @property
    def nested(self) -> int:
        """CA prefixes of an access list that hold the same records, one inside the other."""
        return min(LONGEST_NESTED, max(1, CA_PREFIXES // self.records_per_subnet))

    def customer_address(self, domain: int, record: int) -> IPv4Address:
        """Return the CA of a record, counted from 0 in its domain; records alternate between the subnets."""
        offset = domain * self.domain_stride + record % SUBNETS * SUBNET_STRIDE + record // SUBNETS * RECORD_STRIDE
        return IPv4Address(FIRST_CA + offset)

    def subnet_prefix(self, domain: int, subnet: int) -> IPv4Network:
        inside = self.customer_address(domain, subnet)
        return IPv4Network((inside, SUBNET_PREFIX_LENGTH), strict=False)

    def customer_address6(self, record: int) -> IPv6Address:
        """Return the IPv6 CA of a record, the same in every domain."""
        return self.subnet_prefix6(record % SUBNETS)[FIRST_CA6 + record]

    def subnet_prefix6(self, subnet: int) -> IPv6Network:
        return IPv6Network((f"fd00:0:0:{subnet}::", 64))

    def host(self, domain: int, record: int) -> int:
        return (domain * 7 + record) % self.hosts

    def provider_address(self, host: int) -> IPv4Address:
        return IPv4Address(FIRST_PA + host)

    def vip(self, domain: int) -> IPv4Address:
        return IPv4Address(FIRST_VIP + domain)

    def vip6(self, domain: int) -> IPv6Address:
        return IPv6Network((INTERNET_LOCAL6, INTERNET_PREFIX_LENGTH6), strict=False)[FIRST_VIP6 + domain]

    def vsid(self, domain: int, subnet: int) -> int:
        return FIRST_VSID + domain * SUBNETS + subnet

    def mac(self, domain: int, record: int) -> str:
        """Locally administered: 02-00, domain, record."""
        return "-".join(f"{byte:02x}" for byte in b"\x02\x00" + domain.to_bytes(2, "big") + record.to_bytes(2, "big"))

    def ca_prefix(self, subnet: int, number: int) -> IPv4Network:
        """One of the 250 CA prefixes in the access list of a subnet (of equal addresses in every domain)."""
        first_record = (number // self.nested << self.sharing_shift) * SUBNETS + subnet
        address = self.customer_address(0, first_record)
        narrowest = 32 - RECORD_STRIDE.bit_length() + 1 - self.sharing_shift
        return IPv4Network((address, narrowest + number % self.nested), strict=False)


def remote_prefix(number: int) -> IPv4Network:
    """One of the 250 prefixes of CorpNet in an access list, of three lengths; their first 256 addresses are in use."""
    return IPv4Network((FIRST_REMOTE + (number << 16), 16 + number % 3 * 4), strict=False)


def port_class(number: int) -> str:
    """One of the 250 port classes of an access list: a single port, or ten of them."""
    first = FIRST_PORT + number * PORT_STRIDE
    return str(first) if number % 2 else f"{first}-{first + 9}"
