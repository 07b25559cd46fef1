"""What is known of one connection."""

import time
from collections import deque
from dataclasses import dataclass, field

from gateway.policy.model import IpsecConnection
from vpn.associations import IkeSa
from vpn.causes import Cause, Evidence
from vpn.specification import Tunnel
from vpn.status import Counted, LastError, LogLine, State

_LOG_LINES = 500


@dataclass(slots=True)
class Record:
    """One connection. `failing`: it failed since it was connected last. Times `since` are seconds since 1970."""

    connection: IpsecConnection
    tunnel: Tunnel | None
    evidence: Evidence
    state: State = "connecting"
    since: float = 0.0
    new: bool = True  # until the daemon's SAs were seen: one that is there already was adopted
    held: bool = False
    stands_by_for: str | None = None
    lost: bool = False  # it was connected, and has neither failed nor been connected since
    failing: bool = False
    undiagnosed: Cause | None = None  # a failure whose cause the peer may still tell
    last_error: LastError | None = None
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    sa: IkeSa | None = None
    counted: Counted = field(default_factory=Counted)
    attempts: int = 0
    next_attempt: float = 0.0  # by the monotonic clock

    def settle(self) -> None:
        """Work out the state from what is known."""
        now = time.time()
        installed = self.sa.installed() if self.sa else None
        if installed:
            self.failing, self.undiagnosed = False, None
            self.attempts, self.next_attempt = 0, 0.0
            self.evidence = Evidence(self.connection)
        state = self._state(installed is not None)
        if state != self.state:
            self.lost = self.state == "connected"
        if state != self.state or not self.since:
            age = self.sa.established_s if self.sa and installed and self.new else None
            self.state, self.since = state, now - (age or 0)

    def _state(self, installed: bool) -> State:
        if self.tunnel is None:
            return "disabled"
        if installed:
            return "connected"
        if self.held:
            return "down"
        if self.stands_by_for:
            return "standby"
        return "failed" if self.failing else "connecting"

    def fail(self, cause: Cause) -> None:
        """Remember why it failed."""
        self.last_error, self.failing, self.undiagnosed = LastError(cause.code, cause.text, time.time()), True, None
        self.settle()

    def is_due(self, now: float) -> bool:
        """Tell whether it is to be initiated at this moment of the monotonic clock."""
        if self.state not in ("connecting", "failed") or now < self.next_attempt:
            return False
        return self.sa is None or self.sa.established_s is not None  # else the daemon is at it
