"""Compiles a routing domain and writes it beside what packets meet."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from gateway.configuration import GatewayConfiguration
from gateway.datapath.layout import Layout
from gateway.policy.model import RoutingDomain
from gateway.programming.admission import Siblings, admitted, moved_from
from gateway.programming.block import Bytes
from gateway.programming.choices import Choices, Held, States
from gateway.programming.classifier import compile_access_list
from gateway.programming.domain_block import Surroundings, compile_domain
from gateway.programming.encoding import mac_bytes
from gateway.programming.holdings import holdings_of
from gateway.programming.memory import Memory, Placed
from gateway.programming.places import Places
from gateway.programming.planned_services import Plan, Target
from gateway.programming.programmed import NOTHING_INHERITED, Inherited, Lists, Prepared, Programmed
from gateway.programming.routes import Inside, Neighbour, PortName
from gateway.programming.service_plan import plan_services

GENERATIONS = 255


@dataclass(frozen=True, slots=True)
class Around:
    """What a domain is compiled with besides its policy; the last three are what the Internet's domain needs."""

    siblings: Siblings = field(default_factory=dict)
    states: States = field(default_factory=dict)
    inside: Inside | None = None
    fragments: Neighbour | None = None
    legs: tuple[PortName, ...] = ()
    plan: Plan | None = None
    elsewhere: Mapping[str, Target] = field(default_factory=dict)


class Preparation:
    """Makes `Prepared` of domains, and takes back what is not committed."""

    def __init__(
        self,
        memory: Memory,
        choices: Choices,
        places: Places,
        layout: Layout,
        configuration: GatewayConfiguration,
        inherited: Mapping[str, Inherited],
    ) -> None:
        """`inherited`: what is known, by RDID, of domains whose table is still to be made for the first time."""
        self._memory = memory
        self._choices = choices
        self._places = places
        self._layout = layout
        self._inherited = inherited
        self._router_mac = mac_bytes(configuration.router_mac)
        self._own_addresses = frozenset(configuration.provider_addresses())
        self._vlans = {port.name: port.vlan for port in configuration.ports}

    def prepare(self, domain: RoutingDomain, old: Programmed | None, around: Around) -> Prepared:
        """Write a domain beside what packets meet. Raises CapacityError, and then nothing has changed."""
        held = old.choices if old else {}
        inherited = self._inherited.get(domain.id, NOTHING_INHERITED)
        plan = around.plan or plan_services(domain, old.numbers if old else inherited.numbers)
        with ExitStack() as undone:
            number = old.number if old else self._memory.take_number(domain.id)
            if old is None:
                undone.callback(self._memory.give_back, number)
            choices = self._choices.prepare(plan, held, around.states, inherited.down)
            undone.callback(self._choices.discard, choices, held)
            prepared = Prepared(domain.id, self._result(domain, old, around, plan, number, choices), old is None)
            undone.pop_all()
        return prepared

    def discard(self, prepared: Prepared, old: Programmed | None) -> None:
        """Take back what is not to be committed."""
        result = prepared.result
        if old is None or result.placed is not old.placed:
            self._memory.retire(result.placed)
        self._choices.discard(result.choices, old.choices if old else {})
        if prepared.new:
            self._memory.give_back(result.number)

    def _result(
        self,
        domain: RoutingDomain,
        old: Programmed | None,
        around: Around,
        plan: Plan,
        number: int,
        choices: Held,
    ) -> Programmed:
        lists = self._compile_lists(domain, old)
        moving = (old.moving if old else frozenset()) | moved_from(old.domain if old else None, domain)
        sources = admitted((record.provider_address for record in domain.lookup_records), around.siblings, moving)
        surroundings = Surroundings(
            layout=self._layout,
            router_mac=self._router_mac,
            places=self._places,
            number=number,
            port_vlans=self._vlans,
            lists={name: block for name, (_, block) in lists.items()},
            generation=_generation(domain, old, self._inherited.get(domain.id, NOTHING_INHERITED)),
            admitted=sources,
            own_addresses=self._own_addresses,
            plan=plan,
            choices={chooser: held.number for chooser, held in choices.items()},
            elsewhere=around.elsewhere,
            inside=around.inside,
            fragments=around.fragments,
            legs=around.legs,
        )
        block, generation = _compiled(domain, surroundings, old)
        if plan.rules or any(each.applies_to for each in domain.access_control_lists):
            self._memory.regions.make_room(number)
        return Programmed(
            number=number,
            placed=old.placed if old and _same(block, old.placed) else self._memory.place(block),
            holdings=holdings_of(domain, self._vlans, sources, around.legs, plan.public(), around.fragments),
            domain=domain,
            generation=generation,
            moving=moving,
            lists=lists,
            numbers=plan.numbers,
            plan=plan,
            choices=dict(choices),
        )

    def _compile_lists(self, domain: RoutingDomain, old: Programmed | None) -> Lists:
        known = old.lists if old else {}
        found = {}
        for each in domain.access_control_lists:
            entry = known.get(each.name)
            unchanged = entry is not None and (entry[0] is each or entry[0] == each)
            found[each.name] = entry if entry and unchanged else (each, compile_access_list(each, self._layout))
        return found


def _compiled(domain: RoutingDomain, surroundings: Surroundings, old: Programmed | None) -> tuple[Bytes, int]:
    """Return the block, and the generation of the access lists in it."""
    block = compile_domain(domain, surroundings)
    if old is None or old.domain is not None or _same(block, old.placed):
        return block, surroundings.generation
    # Nobody knows whether the lists are what its flows were allowed by.
    generation = _following(old.generation)
    return compile_domain(domain, replace(surroundings, generation=generation)), generation


def _same(block: Bytes, placed: Placed) -> bool:
    return len(block) == len(placed.block) and bool((block == placed.block).all())


def _generation(domain: RoutingDomain, old: Programmed | None, inherited: Inherited) -> int:
    """The number of these access lists: another one where they may not be what the flows were allowed by."""
    if old is None:
        return _following(inherited.generation)
    same = old.domain is None or (
        old.domain.access_control_lists == domain.access_control_lists
        and old.domain.virtual_subnets == domain.virtual_subnets
    )
    return old.generation if same else _following(old.generation)


def _following(generation: int) -> int:
    return generation % GENERATIONS + 1
