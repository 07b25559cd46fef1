"""Which of several tunnels carries, and which are not to be connected side by side."""

from collections.abc import Callable, Collection

from gateway.policy.model import ConnectionRoute, IpsecConnection, TrafficSelectors
from vpn.precedence import Flows, Precedence
from vpn.specification import tunnels

Make = Callable[..., IpsecConnection]
CLOUD = ("10.1.1.0/24",)


def site(
    connection: Make,
    name: str,
    *routes: str,
    metric: int = 0,
    remote: tuple[str, ...] = (),
    local: tuple[str, ...] = CLOUD,
) -> IpsecConnection:
    """A site behind these routes, and behind these selectors, else any."""
    return connection(
        name=name,
        traffic_selectors=TrafficSelectors(local, remote) if remote else None,
        routes=tuple(ConnectionRoute(prefix, metric=metric) for prefix in routes),
    )


def precedence(*connections: IpsecConnection, in_user_space: bool = False) -> Precedence:
    return Precedence(tunnels(connections, in_user_space), in_user_space)


def carriers(found: Precedence, connected: Collection[str]) -> dict[str, str | None]:
    """Return who carries each prefix, from anywhere."""
    by_flows = found.carriers(connected)
    assert {flows.source for flows in by_flows} == {"0.0.0.0/0"}
    return {flows.prefix: name for flows, name in by_flows.items()}


def test_the_connected_tunnel_of_the_lowest_metric_carries(connection: Make) -> None:
    found = precedence(site(connection, "a", "10.2.0.0/16", metric=20), site(connection, "b", "10.2.0.0/16", metric=10))
    assert carriers(found, {"a", "b"}) == {"10.2.0.0/16": "b"}
    assert carriers(found, {"a"}) == {"10.2.0.0/16": "a"}
    assert carriers(found, ()) == {"10.2.0.0/16": "b"}


def test_of_equal_metrics_the_first_by_name_carries(connection: Make) -> None:
    found = precedence(site(connection, "b", "10.2.0.0/16"), site(connection, "a", "10.2.0.0/16"))
    assert carriers(found, {"a", "b"}) == {"10.2.0.0/16": "a"}


def test_each_prefix_is_carried_by_itself(connection: Make) -> None:
    found = precedence(site(connection, "a", "10.2.0.0/16", "10.4.0.0/16"), site(connection, "b", "10.2.0.0/16"))
    assert carriers(found, {"b"}) == {"10.2.0.0/16": "b", "10.4.0.0/16": "a"}


def test_with_the_kernels_esp_all_connect(connection: Make) -> None:
    found = precedence(site(connection, "a", "10.2.0.0/16"), site(connection, "b", "10.2.0.0/16"))
    assert found.standing_by({"a", "b"}) == {}


def test_in_user_space_one_of_two_tunnels_to_a_prefix_stands_by(connection: Make) -> None:
    equal = site(connection, "a", "10.2.0.0/16", metric=20), site(connection, "b", "10.2.0.0/16", metric=10)
    found = precedence(*equal, in_user_space=True)
    assert found.standing_by({"a", "b"}) == {"a": "b"}
    assert found.standing_by({"a"}) == {}
    assert carriers(found, {"a"}) == {"10.2.0.0/16": "a"}


def test_of_three_the_second_stands_in_for_the_first_alone(connection: Make) -> None:
    sites = [site(connection, name, "10.2.0.0/16", metric=number) for number, name in enumerate("abc")]
    found = precedence(*sites, in_user_space=True)
    assert found.standing_by({"a", "b", "c"}) == {"b": "a", "c": "a"}
    assert found.standing_by({"b", "c"}) == {"c": "b"}


def test_in_user_space_equal_selectors_are_not_told_apart_by_routes(connection: Make) -> None:
    wide = ("10.0.0.0/8",)
    found = precedence(
        site(connection, "a", "10.2.0.0/16", remote=wide),
        site(connection, "b", "10.3.0.0/16", remote=wide),
        in_user_space=True,
    )
    assert found.standing_by({"a", "b"}) == {"b": "a"}
    assert carriers(found, {"a"}) == {"10.2.0.0/16": "a", "10.3.0.0/16": None}


def test_in_user_space_route_based_tunnels_are_told_apart_by_their_routes(connection: Make) -> None:
    found = precedence(site(connection, "a", "10.2.0.0/16"), site(connection, "b", "10.3.0.0/16"), in_user_space=True)
    assert found.standing_by({"a", "b"}) == {}
    assert carriers(found, ()) == {"10.2.0.0/16": "a", "10.3.0.0/16": "b"}


def test_in_user_space_what_a_wider_tunnel_would_take_is_closed_while_its_own_is_down(connection: Make) -> None:
    hub = site(connection, "hub", "10.0.0.0/8", remote=("10.0.0.0/8",))
    branch = site(connection, "branch", "10.2.0.0/16", remote=("10.2.0.0/16",))
    found = precedence(hub, branch, in_user_space=True)
    assert found.standing_by({"hub", "branch"}) == {}
    assert carriers(found, {"hub", "branch"}) == {"10.0.0.0/8": "hub", "10.2.0.0/16": "branch"}
    assert carriers(found, {"hub"}) == {"10.0.0.0/8": "hub", "10.2.0.0/16": None}
    assert carriers(precedence(hub, branch), {"hub"}) == {"10.0.0.0/8": "hub", "10.2.0.0/16": "branch"}


def test_in_user_space_narrow_selectors_of_ours_may_take_what_a_longer_route_gives_another(connection: Make) -> None:
    any_to_any = site(connection, "any", "10.2.5.0/24")
    narrow = site(connection, "narrow", "10.2.0.0/16", remote=("10.2.0.0/16",))
    other = site(connection, "other", "192.168.0.0/16")  # so that the first one's selectors are its routes
    found = precedence(any_to_any, narrow, other, in_user_space=True)
    assert found.standing_by({"any", "narrow", "other"}) == {"narrow": "any"}


def test_tunnels_to_one_prefix_carry_each_from_its_own_sources(connection: Make) -> None:
    web = site(connection, "web", "10.2.0.0/16", remote=("10.2.0.0/16",), local=("10.1.1.0/24", "10.1.3.0/24"))
    app = site(connection, "app", "10.2.0.0/16", remote=("10.2.0.0/16",), local=("10.1.2.0/24",))
    for in_user_space in (False, True):
        found = precedence(web, app, in_user_space=in_user_space)
        assert found.standing_by({"web", "app"}) == {}
        assert found.carriers({"web", "app"}) == {
            Flows("10.1.1.0/24", "10.2.0.0/16"): "web",
            Flows("10.1.2.0/24", "10.2.0.0/16"): "app",
            Flows("10.1.3.0/24", "10.2.0.0/16"): "web",
        }


def test_from_a_source_within_anothers_each_carries_that_takes_it(connection: Make) -> None:
    wide = site(connection, "wide", "10.2.0.0/16", remote=("10.2.0.0/16",), local=("10.1.0.0/16",), metric=20)
    narrow = site(connection, "narrow", "10.2.0.0/16", remote=("10.2.0.0/16",), local=("10.1.2.0/24",), metric=10)
    whole, part = Flows("10.1.0.0/16", "10.2.0.0/16"), Flows("10.1.2.0/24", "10.2.0.0/16")
    found = precedence(wide, narrow)
    assert found.carriers({"wide", "narrow"}) == {whole: "wide", part: "narrow"}
    assert found.carriers({"wide"}) == {whole: "wide", part: "wide"}
    assert found.carriers({"narrow"}) == {whole: "wide", part: "narrow"}


def test_in_user_space_what_no_connected_tunnel_takes_from_a_source_is_closed(connection: Make) -> None:
    web = site(connection, "web", "10.2.0.0/16", remote=("10.2.0.0/16",), local=("10.1.1.0/24",))
    app = site(connection, "app", "10.2.0.0/16", remote=("10.2.0.0/16",), local=("10.1.2.0/24",))
    found = precedence(web, app, in_user_space=True).carriers({"app"})
    assert found == {Flows("10.1.1.0/24", "10.2.0.0/16"): None, Flows("10.1.2.0/24", "10.2.0.0/16"): "app"}
