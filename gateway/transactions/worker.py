"""Programs accepted revisions in their order, on a thread of its own, and knows how far it has come."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from gateway.policy.model import Policy

log = structlog.get_logger(__name__)


class Programs(Protocol):
    """What makes the datapath hold a policy; each answer is {routing domain: why it could not be programmed}."""

    def apply(self, policy: Policy) -> dict[str, str]: ...

    def apply_domain(self, policy: Policy, domain_id: str) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Programmed:
    """`revision`: the last one that the datapath held without error; `reached`: the last one that was tried.

    `errors`: routing domains that forward by an older policy, and why. `failure`: why the last try ended halfway.
    """

    revision: int = 0
    reached: int = 0
    errors: Mapping[str, str] = field(default_factory=dict)
    failure: str | None = None


class ProgrammingWorker:
    """One thread. Whoever submits sees to it that revisions come in their order."""

    def __init__(self, programmer: Programs) -> None:
        self._programmer = programmer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="programming")
        self._state = Programmed()
        self._pending: dict[int, Future[None]] = {}

    @property
    def state(self) -> Programmed:
        """What is known at this moment."""
        return self._state

    def submit(
        self, revision: int, policy: Policy, changed: frozenset[str] | None, left_out: Mapping[str, str]
    ) -> None:
        """Program `policy`, in which only these routing domains changed since the last one (None: all may have).

        `left_out`: routing domains that were accepted and are not in `policy`, and why.
        """
        done = self._thread.submit(self._program, revision, policy, changed, left_out)
        self._pending[revision] = done
        done.add_done_callback(lambda _: self._forget(revision, done))

    def outcome(self, revision: int) -> Future[None]:
        """Done once the revision was tried."""
        pending = self._pending.get(revision)
        if pending is None:
            pending = Future()
            pending.set_result(None)
        return pending

    def stop(self) -> None:
        """Finish the revision under way; the following ones are programmed at the next start."""
        self._thread.shutdown(cancel_futures=True)

    def _forget(self, revision: int, done: Future[None]) -> None:
        if self._pending.get(revision) is done:
            del self._pending[revision]

    def _program(
        self, revision: int, policy: Policy, changed: frozenset[str] | None, left_out: Mapping[str, str]
    ) -> None:
        before = self._state
        try:
            errors = {**left_out, **self._apply(policy, None if before.failure else changed)}
        except Exception as error:  # the thread's edge: status tells it, and the next revision is applied whole
            log.exception("programming_failed", revision=revision)
            self._state = Programmed(before.revision, revision, before.errors, f"{type(error).__name__}: {error}")
            return
        self._state = Programmed(before.revision if errors else revision, revision, errors)
        for domain, why in errors.items() - before.errors.items():
            log.error("domain_not_programmed", revision=revision, domain=domain, why=why)

    def _apply(self, policy: Policy, changed: frozenset[str] | None) -> dict[str, str]:
        if changed is None or len(changed) > 1:
            return self._programmer.apply(policy)
        # What could not be programmed before is still not: only what changed is tried.
        errors = {domain: why for domain, why in self._state.errors.items() if domain not in changed}
        for domain_id in changed:
            errors |= self._programmer.apply_domain(policy, domain_id)
        return errors
