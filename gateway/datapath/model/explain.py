"""What the gateway would do with a packet described in words, and why: what `tgw explain` asks."""

from dataclasses import replace
from typing import Any

from gateway.datapath.model.lookup import DROPPED_THERE
from gateway.datapath.model.question import Question, QuestionError, build
from gateway.datapath.model.verdict import Action, DropReason, Step, Verdict
from gateway.datapath.model.world import World

__all__ = ["Question", "QuestionError", "explain", "to_json"]

REASONS = {
    DropReason.MALFORMED: "It is cut off, or its headers contradict each other.",
    DropReason.OUTER_FRAGMENT: "A tunnel packet must not be fragmented on the provider network: raise its MTU.",
    DropReason.OUTER_OPTIONS: "A tunnel packet with IP options is not read.",
    DropReason.UNKNOWN_VSID: "Its VSID belongs to no routing domain.",
    DropReason.SOURCE_NOT_ADMITTED: "Its outer source is no provider address of the routing domain.",
    DropReason.INNER_VLAN: "The inner frame carries a VLAN tag.",
    DropReason.BROADCAST: "Broadcast and multicast are not routed.",
    DropReason.NOT_ROUTER_MAC: "The inner frame is not for the router.",
    DropReason.NOT_IP: "The inner frame is neither IPv4 nor IPv6.",
    DropReason.IP_OPTIONS: "Packets with IP options are not routed.",
    DropReason.EXTENSION_HEADERS: "Packets with IPv6 extension headers other than a fragment header are not routed.",
    DropReason.MARTIAN_SOURCE: "No host has its source address.",
    DropReason.MARTIAN_DESTINATION: "No host has its destination address.",
    DropReason.LINK_LOCAL: "Link-local addresses are not routed.",
    DropReason.ECN_NOT_CAPABLE: "It met congestion in the tunnel, and its sender does not know ECN (RFC 6040).",
    DropReason.NEIGHBOR_UNANSWERED: "Nothing is known of the address asked for, or it is the asker's own.",
    DropReason.LOCAL_NOT_SERVED: "The gateway's own addresses answer to ping only.",
    DropReason.NO_ROUTE: "No prefix of the routing domain holds its destination.",
    DropReason.NO_RECORD: "Its destination is in a virtual subnet without a lookup record, or behind a closed tunnel.",
    DropReason.TTL_EXCEEDED: "Its TTL or hop limit is used up.",
    DropReason.HAIRPIN: "It would go back to where it came from.",
    DropReason.ACCESS_LIST_OUTBOUND: "An access control list of its sender denies it.",
    DropReason.ACCESS_LIST_INBOUND: "An access control list of its receiver denies it.",
    DropReason.FRAGMENT_UNMATCHED: "It is a fragment of a packet whose first fragment was not allowed or not seen.",
    DropReason.TOO_BIG: "It is longer than what fits on the way out.",
    DropReason.REWRITE_NO_SOURCE: "Its source has no rewrite record to be sent as.",
    DropReason.UNDERLAY_UNRESOLVED: "The provider network's way to the host is not known.",
    DropReason.RESOLVING: "The MAC of the next hop is being asked for.",
    DropReason.ANSWER_LIMITED: "The routing domain has used up the answers that the gateway gives in a second.",
    DropReason.VIP_NOT_SERVED: "Nothing is served there: no rule, and no connection that a port was given to.",
    DropReason.NO_MEMBER: "No member of the pool takes new connections.",
    DropReason.NAT_EXHAUSTED: "No port is left to translate its source to.",
    DropReason.TRANSLATION_MISSING: "It would leave to the Internet with a customer address in it.",
    DropReason.NOT_TRANSLATABLE: "It has no ports by which an answer would find back: it cannot share an address.",
}

ACTIONS = {
    Action.FORWARDED: "It is forwarded.",
    Action.ANSWERED: "The gateway answers it itself.",
    Action.CONSUMED: "The gateway learns from it.",
    Action.PASSED: "It goes up to Linux untouched.",
    Action.ORDERED: "Linux puts it in order with the other fragments of its packet, and gives it back.",
}


def explain(world: World, question: Question) -> Verdict:
    """What would become of the packet now; the world is left as it is. Raises QuestionError.

    External neighbours that are not known are taken as resolved; the step that needs one says so.
    """
    interface, frame = build(world, question)
    copy = world.copy()
    copy.assume_neighbours = True
    verdict = copy.process(interface, frame)
    reason = DropReason(verdict.reason) if verdict.reason else None
    words = REASONS[reason] if reason else ACTIONS[Action(verdict.action)]
    if any(step.words == DROPPED_THERE for step in verdict.steps):
        words = "It is forwarded to the compartment, which drops it."
    return replace(verdict, steps=(*verdict.steps, Step("verdict", "", words)))


def to_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON types; the frame that leaves in hexadecimal."""
    return {
        "verdict": str(verdict.action),
        "reason": None if verdict.reason is None else str(verdict.reason),
        "domain": verdict.domain,
        "interface": verdict.interface,
        "frame": None if verdict.frame is None else verdict.frame.hex(),
        "steps": [{"layer": step.layer, "entry": step.entry, "words": step.words} for step in verdict.steps],
    }
