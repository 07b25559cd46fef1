"""The composition root: the one place that knows all parts of the gateway."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import structlog
from fastapi import FastAPI

from gateway import logs
from gateway.adoption import Adopted, adopt
from gateway.api import application
from gateway.api.secrets import CertificateError, CertificateFiles, admin_token, given_certificate, server_certificate
from gateway.api.server import ListenError, listen, notify_service_manager, serve, server
from gateway.configuration import GatewayConfiguration, split_endpoint
from gateway.datapath.build import BuildError, build
from gateway.datapath.capture import end_stale, lock_of
from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import BpfError
from gateway.datapath.pins import PinDirectory, PinsBusyError
from gateway.machine import Machine
from gateway.policy.addresses import UNSPECIFIED
from gateway.programming.programmer import Programmer
from gateway.removal import lock_file_of
from gateway.services.services import Services
from gateway.transactions import Transactions
from plugins.contract import UnknownPluginError, load

log = structlog.get_logger(__name__)

STORE = "policy.sqlite"
FORGET_MOVES_SECONDS = 60.0  # after machines have left their provider addresses
KEEP_NEIGHBOURS_SECONDS = 1.0
WIDEN_CONNECTIONS_SECONDS = 1.0
WARN_OF_EXHAUSTION_SECONDS = 60.0
RENEW_CERTIFICATE_SECONDS = 12 * 3600.0


class StartError(Exception):
    """The gateway cannot start; the text says why and how to mend it. What is pinned forwards on."""


def run(configuration: GatewayConfiguration) -> None:
    """Run the gateway until SIGTERM or SIGINT; the datapath forwards on afterwards. Errors: StartError."""
    logs.configure()
    end_with_any_thread()
    try:
        _run(configuration)
    except (BpfError, BuildError, CertificateError, PinsBusyError, ListenError, UnknownPluginError) as error:
        raise StartError(str(error)) from error
    except OSError as error:
        if error.strerror is None:  # one of our own words
            raise StartError(str(error)) from error
        where = error.filename or configuration.state_dir
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "make room there" if full else "the gateway needs to write there, as root"
        raise StartError(f"{where}: {error.strerror}: {mend}") from error


def end_with_any_thread() -> None:
    """End the process when one of its threads dies: without the underlay's, say, it would no longer follow Linux.

    At once, as kill -9 would: what is pinned forwards on, and the next daemon takes over.
    """

    def end(died: threading.ExceptHookArgs) -> None:
        name = died.thread.name if died.thread else "unknown"
        why = (died.exc_type, died.exc_value, died.exc_traceback)
        log.critical("thread_died", thread=name, datapath="forwards on", mend="start the gateway again", exc_info=why)
        os._exit(1)

    threading.excepthook = end


def _run(configuration: GatewayConfiguration) -> None:
    plugins = load(configuration.plugins.enabled)
    configuration.state_dir.mkdir(parents=True, exist_ok=True)
    token = admin_token(configuration.state_dir)
    files = _certificate(configuration)
    with ExitStack() as parts:
        listener = parts.enter_context(listen(configuration.api.listen))
        pins = parts.enter_context(PinDirectory.hold(configuration.datapath.pin_dir, lock_file_of(configuration)))
        object_path = build()
        adopted = adopt(pins, object_path, configuration)
        layout = Layout.of(object_path)
        if end_stale(adopted.datapath.maps["root"], layout, lock_of(configuration.state_dir)):
            log.info("capture_ended", why="its process is gone")
        programmer = Programmer(adopted.datapath, layout, configuration, adopted.predecessor)
        machine = Machine(configuration, adopted.datapath, layout, programmer, adopted.fault)
        parts.callback(machine.close)
        services = Services(configuration, programmer, machine.links)
        parts.callback(services.close)
        machine.tell_of_links(services.links_changed)
        transactions = Transactions(configuration.state_dir / STORE, services, configuration.ports_by_name())
        transactions.start(programmer.left_behind)
        parts.callback(transactions.stop)
        parts.enter_context(_every(WARN_OF_EXHAUSTION_SECONDS, "exhaustion", machine.warn_of_exhaustion))
        in_place = _promote_when_filled(adopted, transactions)
        parts.enter_context(_every(FORGET_MOVES_SECONDS, "moves", programmer.forget_moves))
        parts.enter_context(_every(KEEP_NEIGHBOURS_SECONDS, "neighbours", programmer.keep_neighbours))
        widen = partial(_if_set, in_place, programmer.widen_connections)
        parts.enter_context(_every(WIDEN_CONNECTIONS_SECONDS, "connections", widen))
        api = application.create(transactions, machine, services, plugins, token)
        _serve(configuration, transactions, api, listener, files)


def _serve(
    configuration: GatewayConfiguration,
    transactions: Transactions,
    api: FastAPI,
    listener: socket.socket,
    files: CertificateFiles,
) -> None:
    def ready() -> None:
        log.info("serving", listen=configuration.api.listen, revision=transactions.held.snapshot.revision)
        transactions.settled().add_done_callback(lambda _: notify_service_manager("READY=1"))

    def renew() -> None:
        try:
            serving.take(_certificate(configuration))
        except (CertificateError, OSError) as error:
            log.error("certificate_not_renewed", why=str(error), effect="the one that was read last is shown on")

    serving = server(api, files, ready)
    with _every(RENEW_CERTIFICATE_SECONDS, "certificate", renew):
        serve(serving, listener)
    notify_service_manager("STOPPING=1")
    log.info("stopping", datapath="forwards on", tunnels="stay up")


def _certificate(configuration: GatewayConfiguration) -> CertificateFiles:
    api = configuration.api
    if api.certificate is not None and api.private_key is not None:
        return given_certificate(CertificateFiles(api.certificate, api.private_key))
    host, _ = split_endpoint(api.listen)
    names = {configuration.name, host}
    if host in UNSPECIFIED:  # then it is reached by whatever addresses there are
        names |= {entry.partition("/")[0] for port in configuration.ports for entry in port.addresses}
    return server_certificate(configuration.state_dir, names)


def _promote_when_filled(adopted: Adopted, transactions: Transactions) -> threading.Event:
    """Let a new version take over once it holds what is accepted, all of it. Returns what is set when it has."""
    in_place = threading.Event()

    def promote(_: object) -> None:
        if transactions.store_fault or transactions.programmed.failure or transactions.programmed.errors:
            log.error("new_version_not_in_place", why="the policy is not programmed whole; the old version forwards on")
        else:
            adopted.promote()
            in_place.set()

    if adopted.predecessor is None:
        in_place.set()
    else:
        transactions.settled().add_done_callback(promote)
    return in_place


def _if_set(event: threading.Event, do: Callable[[], None]) -> None:
    if event.is_set():
        do()


@contextmanager
def _every(seconds: float, name: str, do: Callable[[], None]) -> Iterator[None]:
    """Do something again and again, on a thread of this name."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            do()

    thread = threading.Thread(target=repeat, name=name)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
