"""One `charon-systemd` process in a compartment's namespace: started, adopted, asked, stopped."""

import errno
import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gateway.compartments.entering import run_in
from vpn.kernel import Backend
from vpn.session import Commands, ViciError

_PROGRAM = "/usr/sbin/charon-systemd"
_SETTINGS_VARIABLE = "STRONGSWAN_CONF"
_START_SECONDS, _STOP_SECONDS = 5.0, 3.0
_SOCKET_PATH_BYTES = 107  # sun_path, less its end
_PLUGINS = "random nonce openssl aes gcm sha2 hmac kdf pem pkcs1 pkcs8 pubkey x509 constraints"
_SETTINGS = """\
charon {{
  load_modular = no
  load = {plugins}
  threads = 16                 # nine of them never come back: fewer and VICI goes silent
  install_routes = no          # the gateway routes: see vpn/routing.py
  install_virtual_ip = no
  routing_table_prio = 40000   # libipsec installs routes all the same: nobody looks there
  retransmit_tries = 3
  retransmit_timeout = 1.0
  retransmit_base = 1.4
  make_before_break = yes
  # A flood of IKE_SA_INIT (RFC 7296 section 2.6): cookies after a few, then no state for anybody who does not answer.
  # Its sources are forged, the peer's among them, so that addresses are not blocked: the limit of all is met before
  # that of one. (0 would not mean never, but one more than cookie_threshold_ip.)
  cookie_threshold = 5
  block_threshold = 1000
  init_limit_half_open = 50
  half_open_timeout = 10
  ikesa_limit = 256
  plugins {{
    vici {{ socket = unix://{directory}/vici }}
  }}
  filelog {{ stderr {{
      default = -1
      dmn = 1
      lib = 1
      cfg = 0
  }} }}
  journal {{ default = -1 }}
  syslog {{
    daemon {{ default = -1 }}
    auth {{ default = -1 }}
  }}
}}
charon-systemd {{ journal {{ default = -1 }} }}
"""


class CharonError(Exception):
    """The daemon could not be started."""


class Charon:
    """The process of one endpoint. It outlives this object: only `stop` and `kill` end it."""

    def __init__(self, directory: Path, namespace: str, backend: Backend) -> None:
        """`directory` is the endpoint's own; it is made, for root alone."""
        self.socket = directory / "vici"
        self._directory = directory
        self._settings = directory / "strongswan.conf"
        self._namespace = namespace
        self._backend = backend
        self._pidfd: int | None = None
        self.pid: int | None = None
        self.commands = Commands(self.socket)

    @property
    def pidfd(self) -> int | None:
        """Becomes readable when the process ends; None while there is none."""
        return self._pidfd

    def is_in(self, namespace: str) -> bool:
        """Tell whether the daemon is in the namespace that has this path now."""
        try:
            its, wanted = Path(f"/proc/{self.pid}/ns/net").stat(), Path(namespace).stat()
        except OSError:
            return False
        return (its.st_dev, its.st_ino) == (wanted.st_dev, wanted.st_ino)

    def adopt(self) -> bool:
        """Take over a daemon that an earlier gateway left running in this namespace; end one that is of no use."""
        try:
            pid = self.commands.peer_pid()
            self._pidfd = os.pidfd_open(pid)
            self.pid = pid
            self.commands.call("version")  # answered after the pidfd was opened: it is still the same process
        except (ViciError, OSError):
            self.kill()
            self._kill_stray()
            return False
        if not self.is_in(self._namespace):
            self.stop()
            return False
        return True

    def start(self) -> None:
        """Start the daemon and return when it answers. Raises CharonError."""
        if len(bytes(self.socket)) > _SOCKET_PATH_BYTES:
            raise CharonError(f"{self.socket}: is too long for a socket's path: give the gateway a shorter name")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        self._write_settings()
        self.socket.unlink(missing_ok=True)
        notify = self._directory / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            self._spawn(str(notify))
            self._await(ready)
        notify.unlink()

    def stop(self) -> None:
        """End the daemon; it tells its peers."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemon at once, as where it hangs."""
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Let go of a process that has ended, or that a later gateway shall adopt."""
        self.commands.close()
        if self._pidfd is not None:
            with suppress(ChildProcessError):  # adopted: the child of an earlier gateway
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            os.close(self._pidfd)
        self._pidfd = self.pid = None

    def last_words(self) -> str:
        """Return the end of what the daemon wrote before it gave up."""
        try:
            lines = (self._directory / "stderr").read_text(errors="replace").splitlines()
        except OSError:
            return "it wrote nothing"
        return "; ".join(line.strip() for line in lines[-3:]) or "it wrote nothing"

    def _write_settings(self) -> None:
        kernel = "kernel-libipsec kernel-netlink" if self._backend.in_user_space else "kernel-netlink"
        plugins = f"{_PLUGINS} {kernel} socket-default counters vici"
        settings = _SETTINGS.format(plugins=plugins, directory=self._directory)
        self._settings.write_text(settings)

    def _spawn(self, notify: str) -> None:
        environment = {_SETTINGS_VARIABLE: str(self._settings), "NOTIFY_SOCKET": notify}
        with (self._directory / "stderr").open("wb") as output:
            try:
                process = run_in(self._namespace, lambda: self._popen(environment, output))
            except OSError as error:
                mend = "install the package charon-systemd" if error.errno == errno.ENOENT else "see the error"
                raise CharonError(f"cannot start {_PROGRAM} in {self._namespace}: {error}: {mend}") from error
        self.pid = process.pid
        self._pidfd = os.pidfd_open(process.pid)
        process.returncode = 0  # reaped by `forget`, by its pidfd

    @staticmethod
    def _popen(environment: dict[str, str], output: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [_PROGRAM],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that it outlives the gateway
        )

    def _await(self, ready: socket.socket) -> None:
        """Wait for READY=1, which the daemon sends when it answers VICI."""
        assert self._pidfd is not None
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        deadline = time.monotonic() + _START_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            signalled = {descriptor for descriptor, _ in poll.poll(left * 1000)}
            if ready.fileno() in signalled and b"READY=1" in ready.recv(4096):
                return
            if self._pidfd in signalled:
                self.forget()
                raise CharonError(f"charon ended as soon as it was started: {self.last_words()}")
        self.kill()
        raise CharonError(f"charon was not ready after {_START_SECONDS:g} s: {self.last_words()}")

    def _kill_stray(self) -> None:
        """End a daemon of this directory that does not answer: its gateway was killed while it was starting."""
        if not self._directory.exists():
            return
        settings = f"{_SETTINGS_VARIABLE}={self._settings}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                ours = (process / "exe").readlink() == Path(_PROGRAM)
                if ours and settings in (process / "environ").read_bytes().split(b"\0"):
                    self._pidfd = os.pidfd_open(int(process.name))
                    self.kill()

    def _end(self, how: signal.Signals) -> None:
        if self._pidfd is None:
            self.commands.close()
            return
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        for number in (how, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                break
            if ended.poll(_STOP_SECONDS * 1000):
                break
        self.forget()
