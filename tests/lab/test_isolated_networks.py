"""Networks that never meet: of two customers, and of one owner."""

from deploy.lab import probes
from deploy.lab.running import RunningLab


def test_each_web_server_finds_its_own_sql_server_at_the_equal_address(contoso_fabrikam: RunningLab) -> None:
    assert probes.page(contoso_fabrikam, "ContosoWeb", "10.1.1.11") == "contoso ContosoSQL"
    assert probes.page(contoso_fabrikam, "FabrikamWeb", "10.1.1.11") == "fabrikam FabrikamSQL"


def test_each_office_reaches_its_own_web_server(contoso_fabrikam: RunningLab) -> None:
    assert probes.page(contoso_fabrikam, "contoso-office", "10.1.1.12") == "contoso ContosoWeb"
    assert probes.page(contoso_fabrikam, "fabrikam-office", "10.1.1.12") == "fabrikam FabrikamWeb"


def test_an_owners_two_networks_route_inside_themselves(two_networks_one_owner: RunningLab) -> None:
    assert probes.page(two_networks_one_owner, "Research1", "10.1.2.11") == "research Research2"
    assert probes.page(two_networks_one_owner, "Research2", "10.1.3.11") == "research Research3"
    assert probes.page(two_networks_one_owner, "Research3", "10.1.1.11") == "research Research1"
    assert probes.page(two_networks_one_owner, "Sales2", "10.1.1.11") == "sales Sales1"


def test_an_owners_two_networks_never_meet(two_networks_one_owner: RunningLab) -> None:
    assert probes.ping_error(two_networks_one_owner, "Research1", "10.1.4.11") == "Destination Net Unreachable"
    assert probes.ping_error(two_networks_one_owner, "Sales1", "10.1.2.11") == "Destination Net Unreachable"
    assert probes.drops(two_networks_one_owner, "research", "no_route") > 0
    assert probes.drops(two_networks_one_owner, "sales", "no_route") > 0
