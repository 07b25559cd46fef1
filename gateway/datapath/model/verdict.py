"""What becomes of a frame, and how that came about."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What the datapath does with a frame."""

    FORWARDED = "forwarded"
    ANSWERED = "answered"
    CONSUMED = "consumed"
    PASSED = "passed"
    ORDERED = "ordered"
    DROPPED = "dropped"


class DropReason(StrEnum):
    """Why a frame is dropped; the names stand in metrics, captures and `tgw explain`."""

    MALFORMED = "malformed"
    OUTER_FRAGMENT = "outer_fragment"
    OUTER_OPTIONS = "outer_options"
    UNKNOWN_VSID = "unknown_vsid"
    SOURCE_NOT_ADMITTED = "source_not_admitted"
    INNER_VLAN = "inner_vlan"
    BROADCAST = "broadcast"
    NOT_ROUTER_MAC = "not_router_mac"
    NOT_IP = "not_ip"
    IP_OPTIONS = "ip_options"
    EXTENSION_HEADERS = "extension_headers"
    MARTIAN_SOURCE = "martian_source"
    MARTIAN_DESTINATION = "martian_destination"
    LINK_LOCAL = "link_local"
    ECN_NOT_CAPABLE = "ecn_not_capable"
    NEIGHBOR_UNANSWERED = "neighbor_unanswered"
    LOCAL_NOT_SERVED = "local_not_served"
    NO_ROUTE = "no_route"
    NO_RECORD = "no_record"
    TTL_EXCEEDED = "ttl_exceeded"
    HAIRPIN = "hairpin"
    ACCESS_LIST_OUTBOUND = "access_list_outbound"
    ACCESS_LIST_INBOUND = "access_list_inbound"
    FRAGMENT_UNMATCHED = "fragment_unmatched"
    TOO_BIG = "too_big"
    REWRITE_NO_SOURCE = "rewrite_no_source"
    UNDERLAY_UNRESOLVED = "underlay_unresolved"
    RESOLVING = "resolving"
    ANSWER_LIMITED = "answer_limited"
    VIP_NOT_SERVED = "vip_not_served"
    NO_MEMBER = "no_member"
    NAT_EXHAUSTED = "nat_exhausted"
    TRANSLATION_MISSING = "translation_missing"
    NOT_TRANSLATABLE = "not_translatable"


@dataclass(frozen=True, slots=True)
class Step:
    """One layer's part in the decision.

    `entry` names the entry of the policy or configuration that decided, like a JSON pointer
    (`/routing_domains/0/lookup_records/3`), or is empty where none did; `words` is a sentence.
    """

    layer: str
    entry: str
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one frame.

    `reason` is given for drops, `domain` (RDID) once admission has decided it. `interface` and `frame` are what leaves:
    the forwarded frame, the gateway's answer, the fragment that is to be put in order, or what a drop sends (an ICMP
    error, the request for a neighbour).
    """

    action: str
    reason: str | None
    domain: str | None
    interface: str | None
    frame: bytes | None
    steps: tuple[Step, ...]


class DecidedError(Exception):
    """A layer has decided what becomes of the frame; raised through the layers and caught by `World.process`."""

    def __init__(
        self, action: Action, reason: DropReason | None = None, interface: str | None = None, frame: bytes | None = None
    ) -> None:
        super().__init__(action if reason is None else f"{action}: {reason}")
        self.action = action
        self.reason = reason
        self.interface = interface
        self.frame = frame


def dropped(reason: DropReason) -> DecidedError:
    return DecidedError(Action.DROPPED, reason)


def passed() -> DecidedError:
    return DecidedError(Action.PASSED)
