"""Connections, keys and secrets of one running daemon, brought to what is wanted without touching what is right."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.policy.model import CertificateAuthentication
from vpn.associations import IkeSa, associations
from vpn.session import Commands, RefusedError
from vpn.specification import Tunnel, diagnosis_message, secret_message

_DIAGNOSIS_SECONDS = 2.0


def diagnose(daemon: Path, tunnel: Tunnel) -> list[str]:
    """Offer a peer everything, by a session of its own; return what was logged meanwhile. Raises ViciError."""
    name = f"diagnosis-{tunnel.key}"
    with closing(Commands(daemon)) as commands:
        commands.call("load-conn", {name: diagnosis_message(tunnel)})
        attempt = {"ike": name, "timeout": f"{_DIAGNOSIS_SECONDS * 1000:.0f}", "loglevel": "1"}
        try:
            events: Sequence[Mapping[str, Any]] = commands.collect(
                "initiate", "control-log", attempt, 2 * _DIAGNOSIS_SECONDS
            )
        except RefusedError as error:  # as always: there is no key for it
            events = error.events
        commands.call("unload-conn", {"name": name})
    return [event["msg"].decode(errors="replace") for event in events]


class Loading:
    """What this process has loaded into a daemon; what an earlier one has is asked for and replaced."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._loaded: dict[str, bytes] = {}  # digests of messages, by what they are of
        self._key_ids: dict[str, str] = {}  # the daemon's names of private keys, by those of tunnels

    def reconcile(self, tunnels: Iterable[Tunnel]) -> dict[str, str]:
        """Load what is new or changed, then end and unload what is not wanted; return what was refused, by key.

        Raises ViciError.
        """
        wanted = {tunnel.key: tunnel for tunnel in tunnels}
        refused: dict[str, str] = {}
        for key, tunnel in wanted.items():
            try:
                self._load(tunnel)
            except RefusedError as error:
                refused[key] = str(error)
        self._unload(wanted)
        return refused

    def _load(self, tunnel: Tunnel) -> None:
        secret = secret_message(tunnel)
        if secret is not None:
            self._once(f"secret of {tunnel.key}", "load-shared", secret)
        authentication = tunnel.connection.authentication
        if isinstance(authentication, CertificateAuthentication):
            key = {"type": "any", "data": authentication.private_key.get_secret_value().encode()}
            answer = self._once(f"private key of {tunnel.key}", "load-key", key)
            if answer:
                self._key_ids[tunnel.key] = answer["id"].decode()
        self._once(f"connection {tunnel.key}", "load-conn", {tunnel.key: tunnel.message})

    def _once(self, what: str, command: str, message: Mapping[str, Any]) -> dict[str, Any] | None:
        digest = sha256(repr(message).encode()).digest()
        if self._loaded.get(what) == digest:
            return None
        answer = self._commands.call(command, message)
        self._loaded[what] = digest
        return answer

    def _unload(self, wanted: Mapping[str, Tunnel]) -> None:
        """Drop what is loaded and not wanted, whoever loaded it: the connection first, so that it cannot come again."""
        secrets = {key for key, tunnel in wanted.items() if secret_message(tunnel)}
        for name in self._names("get-conns", "conns") - wanted.keys():
            self._commands.call("unload-conn", {"name": name})
        for sa in self.associations():
            if sa.name not in wanted:
                self._terminate(sa)
        for name in self._names("get-shared", "keys") - secrets:
            self._commands.call("unload-shared", {"id": name})
        self._key_ids = {key: identifier for key, identifier in self._key_ids.items() if key in wanted}
        for name in self._names("get-keys", "keys") - set(self._key_ids.values()):
            self._commands.call("unload-key", {"id": name})
        self._loaded = {what: digest for what, digest in self._loaded.items() if what.rpartition(" ")[2] in wanted}

    def _names(self, command: str, field: str) -> set[str]:
        return {name.decode() for name in self._commands.call(command)[field]}

    def associations(self, key: str | None = None) -> list[IkeSa]:
        """List SAs, of one connection or all. Raises ViciError."""
        return associations(self._commands.collect("list-sas", "list-sa", {"ike": key} if key else None))

    def initiate(self, key: str) -> None:
        """Begin to connect and return at once: events tell how it went. Raises ViciError."""
        self._commands.collect("initiate", "control-log", {"ike": key, "child": key, "timeout": "-1"})

    def _terminate(self, sa: IkeSa) -> None:
        force = "no" if sa.established_s is not None else "yes"  # one that is not established waits for nobody
        which = {"ike-id": str(sa.number), "timeout": "-1", "force": force}
        try:
            self._commands.collect("terminate", "control-log", which)
        except RefusedError:
            return  # it ended meanwhile
