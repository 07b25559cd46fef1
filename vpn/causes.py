"""What strongSwan logs about a failure, in words an administrator can act on.

An exchange often fails in several lines, and the last is rarely the telling one: what was said before in the same
attempt is kept as evidence.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.policy.model import IpsecConnection, PskAuthentication
from vpn.specification import identities
from vpn.suites import esp_proposal, ike_proposal


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a tunnel failed: a code for programs, a text for people."""

    code: str
    text: str


@dataclass(slots=True)
class Evidence:
    """The lines of one connection's latest attempt."""

    connection: IpsecConnection
    _offered: dict[str, str] = field(default_factory=dict)  # by protocol, IKE or ESP
    _latest: str = "IKE"  # of which the peer named its offer last
    _asked_for: tuple[str, str] | None = None
    _invalid: str | None = None
    _known: Cause | None = None  # told by the peer's own attempt: it says more than its answers to ours

    def cause(self, line: str) -> Cause | None:
        """Take in the next line; return the cause of a failure where this line tells it."""
        for pattern, told in _LINES:
            if match := pattern.search(line):
                return told(self, match)
        return None

    def wants_diagnosis(self, cause: Cause) -> bool:
        """Tell whether more can be found out about a failure by asking the peer."""
        return cause.code == "ike_proposal" and "IKE" not in self._offered

    def diagnosis(self, lines: Iterable[str]) -> Cause | None:
        """Tell the cause from how the peer took an attempt that offered everything; None if that told nothing."""
        for line in lines:
            match = re.search(r"selected proposal: IKE:(.*)", line)
            if match:
                self._offered["IKE"] = match[1]
                return self._no_ike_proposal()
            if "NO_PROPOSAL_CHOSEN" in line:
                ours = self.connection.local_address
                text = f"the peer has no connection configured for our address {ours}: it refuses every proposal"
                self._known = Cause("unknown_to_peer", text)
                return self._known
        return None

    def _offer(self, match: re.Match[str]) -> None:
        self._latest = match[1]
        self._offered[match[1]] = match[2].replace(f"{match[1]}:", "")

    def _identities_asked(self, match: re.Match[str]) -> None:
        self._asked_for = (match[1], match[2])

    def _invalid_certificate(self, match: re.Match[str]) -> None:
        self._invalid = match[0].strip()

    def _refused_authentication(self, _: re.Match[str]) -> Cause:
        if self._known:
            return self._known
        ours, theirs = identities(self.connection)
        which = (
            f"our identity {ours or 'in it'}, or that it is {theirs}:"
            " IKEv2 answers all three alike, and only the peer's log tells which"
        )
        if isinstance(self.connection.authentication, PskAuthentication):
            return Cause("authentication_rejected", f"the peer rejected our pre-shared key, {which}")
        return Cause("certificate_rejected", f"the peer rejected our certificate, whose issuer it must trust, {which}")

    def _other_key(self, match: re.Match[str]) -> Cause:
        text = f"the pre-shared key of the peer {match[1]} is not ours: set the same at both ends"
        self._known = Cause("psk_mismatch", text)
        return self._known

    def _no_ike_proposal(self, _: re.Match[str] | None = None) -> Cause:
        wanted = ike_proposal(self.connection.ike)
        if "IKE" in self._offered:
            return Cause(
                "ike_proposal", f"no common IKE proposal: peer offered {self._offered['IKE']}, we want {wanted}"
            )
        return self._known or Cause("ike_proposal", f"no common IKE proposal: the peer does not take ours, {wanted}")

    def _no_esp_proposal(self, _: re.Match[str]) -> Cause:
        wanted = esp_proposal(self.connection.esp)
        if "ESP" in self._offered:
            return Cause(
                "esp_proposal", f"no common ESP proposal: peer offered {self._offered['ESP']}, we want {wanted}"
            )
        return Cause("esp_proposal", f"no common ESP proposal: the peer does not take ours, {wanted}")

    def _no_proposal(self, _: re.Match[str]) -> Cause | None:
        """The peer's own attempt failed; the line before named what it offered."""
        if self._latest == "ESP":
            return self._no_esp_proposal(_)
        return self._no_ike_proposal()

    def _other_group(self, match: re.Match[str]) -> Cause:
        return Cause("ike_proposal", f"no common IKE proposal: peer wants the group {match[2]}, we want {match[1]}")

    def _selectors(self, _: re.Match[str]) -> Cause:
        selectors = self.connection.traffic_selectors
        ours = "any to any"
        if selectors:
            ours = f"{', '.join(selectors.local)} to {', '.join(selectors.remote)}"
        return Cause(
            "traffic_selectors",
            f"the peer does not accept our traffic selectors, {ours}: make both ends mirror each other",
        )

    def _asked_selectors(self, match: re.Match[str]) -> Cause:
        return Cause("traffic_selectors", f"the peer asks for traffic selectors that policy does not have: {match[1]}")

    def _silent(self, _: re.Match[str]) -> Cause:
        address = self.connection.remote_address
        return Cause("silent", f"the peer {address} does not answer: is it up, and are UDP 500 and 4500 open to it?")

    def _unknown_peer(self, _: re.Match[str]) -> Cause | None:
        if self._asked_for is None:
            return None
        us, them = self._asked_for
        ours, theirs = identities(self.connection)
        return Cause(
            "identity",
            f"the peer calls itself {them} and us {us}: policy says {theirs} and {ours or 'our certificate'}",
        )

    def _other_identity(self, match: re.Match[str]) -> Cause:
        return Cause(
            "identity", f"the peer is not {match[1]}, but calls itself {match[2]}: correct remote_id or the peer"
        )

    def _untrusted(self, match: re.Match[str]) -> Cause:
        why = self._invalid or "its issuer is not our CA"
        return Cause("peer_certificate", f"the certificate of the peer {match[1]} is not trusted: {why}")

    def _no_key(self, match: re.Match[str]) -> Cause:
        return Cause("own_credentials", f"we have no usable key for {match[1]}: check certificate and private_key")

    def _no_way(self, match: re.Match[str]) -> Cause:
        return Cause("no_way", f"nothing can be sent to {self.connection.remote_address}: {match[1]}")

    def _not_installed(self, match: re.Match[str]) -> Cause:
        return Cause("not_installed", f"the gateway could not set up what was negotiated: {match[0]}")

    def _closed(self, _: re.Match[str]) -> Cause:
        return Cause("closed_by_peer", "the peer closed the tunnel")


_Told = Callable[[Evidence, re.Match[str]], Cause | None]
_LINES: tuple[tuple[re.Pattern[str], _Told], ...] = tuple(
    (re.compile(pattern), told)
    for pattern, told in (
        (r"received AUTHENTICATION_FAILED notify", Evidence._refused_authentication),
        (r"tried \d+ shared keys? for '.*' - '(.*)', but MAC mismatched", Evidence._other_key),
        (r"NO_PROPOSAL_CHOSEN notify, no CHILD_SA built", Evidence._no_esp_proposal),
        (r"received NO_PROPOSAL_CHOSEN notify error", Evidence._no_ike_proposal),
        (r"received proposals: (?=(IKE|ESP))(.*)", Evidence._offer),
        (r"no acceptable proposal found|received proposals unacceptable", Evidence._no_proposal),
        (r"peer didn't accept (?:DH|key exchange) (?:group|method) (\S+), it requested (\S+)", Evidence._other_group),
        (r"TS_UNACCEPTABLE notify, no CHILD_SA built", Evidence._selectors),
        (r"traffic selectors (.*) unacceptable", Evidence._asked_selectors),
        (r"giving up after \d+ retransmits", Evidence._silent),
        (r"looking for peer configs matching \S+\[(.*)\]\.\.\.\S+\[(.*)\]", Evidence._identities_asked),
        (r"no matching peer config found", Evidence._unknown_peer),
        (r"constraint check failed: identity '(.*)' required.*?(?:matched by '(.*)')?$", Evidence._other_identity),
        (
            r"subject certificate invalid .*|issuer certificate invalid .*|no issuer certificate found.*",
            Evidence._invalid_certificate,
        ),
        (r"no trusted \S+ public key found for '(.*)'", Evidence._untrusted),
        (r"no private key found for '(.*)'", Evidence._no_key),
        (r"no shared key found for '(.*?)'", Evidence._no_key),
        (r"error writing to socket: (.*)", Evidence._no_way),
        (r"unable to install .*", Evidence._not_installed),
        (r"received DELETE for IKE_SA", Evidence._closed),
    )
)
