"""The gateway's own configuration: what the example means, and what is said of mistakes."""

from pathlib import Path

import pytest

from gateway.configuration import ConfigurationError, GatewayConfiguration, load, split_endpoint

EXAMPLE = """
name = "gateway1"
state_dir = "/var/lib/tenant-gateway"
router_mac = "00-1d-d8-b7-1c-00"

[api]
listen = "127.0.0.1:8443"

[plugins]
enabled = ["policy"]

[hosts]
listen = "192.168.6.2:6640"

[[ports]]
name = "provider"
role = "provider"
interface = "eth1"
vlan = 0
addresses = ["192.168.6.2/24", "FD00:192::2/64"]

[[ports]]
name = "corpnet"
role = "external"
interface = "eth2"

[[ports]]
name = "internet"
role = "external"
interface = "eth3"
addresses = ["198.51.100.1/24"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def refused(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load(file)
    return str(raised.value)


def test_the_example_is_read_whole(file: Path) -> None:
    file.write_text(EXAMPLE)
    configuration = load(file)
    assert configuration.name == "gateway1"
    assert configuration.router_mac == "00-1D-D8-B7-1C-00"
    assert configuration.provider_addresses() == ("192.168.6.2", "fd00:192::2")
    assert [port.role for port in configuration.ports] == ["provider", "external", "external"]
    assert configuration.ports_by_name()["corpnet"].vlan == 0


def test_an_empty_file_means_the_defaults(file: Path) -> None:
    file.write_text("")
    configuration = load(file)
    assert configuration == GatewayConfiguration()
    assert (configuration.datapath.memory_mb, configuration.datapath.dscp) == (192, "uniform")
    assert configuration.datapath.connections_per_domain == 65536
    assert configuration.datapath.pin_dir == Path("/sys/fs/bpf/tenant-gateway")
    assert configuration.api.listen == "127.0.0.1:8443"


@pytest.mark.parametrize("connections", ["16383", "262145", "true", '"many"'])
def test_how_many_connections_a_domain_may_have_is_bounded(file: Path, connections: str) -> None:
    text = refused(file, f"[datapath]\nconnections_per_domain = {connections}\n")
    assert text.startswith(f"{file}: datapath.connections_per_domain: ")


def test_every_mistake_is_named_with_file_and_field(file: Path) -> None:
    text = 'nam = "x"\nrouter_mac = "zz"\n[api]\nlisten = "8443"\n[[ports]]\nname = "a"\nrole = "vm"\nvlan = 5000\n'
    lines = refused(file, text).splitlines()
    assert [line.removeprefix(f"{file}: ").partition(":")[0] for line in lines] == [
        "router_mac",
        "api.listen",
        "ports[0].role",
        "ports[0].interface",
        "ports[0].vlan",
        "nam",
    ]
    assert lines[3].endswith("ports[0].interface: is missing: add it")


def test_text_that_is_no_toml_is_named_with_its_line(file: Path) -> None:
    assert "line 2" in refused(file, 'name = "a"\nport =\n')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere.toml: cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.toml")


def port(name: str, interface: str, role: str = "external", vlan: int = 0) -> str:
    return f'[[ports]]\nname = "{name}"\nrole = "{role}"\ninterface = "{interface}"\nvlan = {vlan}\n'


def test_port_names_differ(file: Path) -> None:
    assert "the name 'a' is given to 2 ports" in refused(file, port("a", "eth1") + port("a", "eth2"))


def test_two_ports_of_one_role_do_not_join_the_same_vlan(file: Path) -> None:
    assert "interface 'eth1', VLAN 7" in refused(file, port("a", "eth1", vlan=7) + port("b", "eth1", vlan=7))


def test_one_interface_is_provider_and_external_at_once(file: Path) -> None:
    file.write_text(port("a", "eth1") + port("b", "eth1", role="provider"))
    assert len(load(file).ports) == 2


@pytest.mark.parametrize("name", ["sixteen-characters", "eth1/2", "eth 1", ".."])
def test_what_no_interface_can_be_called_is_refused(file: Path, name: str) -> None:
    file.write_text(f'[[ports]]\nname = "a"\nrole = "external"\ninterface = "{name}"\n')
    with pytest.raises(ConfigurationError, match=r"ports\[0\].interface: .* is not a name that an interface can have"):
        load(file)


def test_a_certificate_comes_with_its_key(file: Path) -> None:
    assert "api: certificate and private_key belong together" in refused(file, '[api]\ncertificate = "/a.pem"\n')


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("[::1]:1", ("::1", 1)),
        ("gateway.example:443", ("gateway.example", 443)),
    ],
)
def test_endpoints_are_split(text: str, endpoint: tuple[str, int]) -> None:
    assert split_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["8443", ":8443", "::1:8443", "a:b", "a:65536", "a:"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address and a port"):
        split_endpoint(text)


def internet(gateways: str, addresses: str = '"198.51.100.1/24", "2001:db8::1/64"', role: str = "external") -> str:
    return port("internet", "eth3", role) + f"addresses = [{addresses}]\ngateways = [{gateways}]\n"


def test_an_external_port_has_gateways_of_both_families(file: Path) -> None:
    file.write_text(internet('"198.51.100.254", "2001:DB8::FE"'))
    (read,) = load(file).ports
    assert read.gateways == ("198.51.100.254", "2001:db8::fe")
    assert read.own_addresses() == ("198.51.100.1", "2001:db8::1")
    assert read.network_around("198.51.100.80") is not None
    assert read.network_around("198.51.101.80") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (internet('"198.51.101.254"'), "198.51.101.254 is not another address in a network of the port's addresses"),
        (internet('"198.51.100.1"'), "198.51.100.1 is not another address"),
        (internet('"198.51.100.254", "198.51.100.253"'), "2 of them are IPv4: keep one of each IP family"),
        (internet('"198.51.100.254"', addresses=""), "an external port that has addresses"),
        (internet('"198.51.100.254"', role="provider"), "an external port that has addresses"),
        (internet('"gateway.example"'), "is not an IP address"),
    ],
)
def test_gateways_that_cannot_be_next_hops_are_refused(file: Path, text: str, words: str) -> None:
    assert words in refused(file, text)
