"""`tgw capture`: packets as the datapath saw them, with their verdicts, as pcapng."""

import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.domain_option import Domain
from gateway.cli.failure import Failure
from gateway.cli.session import Session

if TYPE_CHECKING:
    from gateway.configuration import GatewayConfiguration
    from gateway.datapath.capture import Capture, Wanted


def capture(
    context: typer.Context,
    write: Annotated[str, typer.Option("--write", "-w", metavar="FILE", help="The pcapng file to write; - is stdout.")],
    reasons: Annotated[
        list[str] | None,
        typer.Argument(metavar="REASON", help="With --drops: only these reasons, as `tgw status` names them."),
    ] = None,
    port: Annotated[str | None, typer.Option("--port", help="Only packets that come in or leave by this port.")] = None,
    vlan: Annotated[
        int, typer.Option("--vlan", min=0, max=4094, help="With --port: this VLAN of it; 0 is the port's own.")
    ] = 0,
    domain: Domain = None,
    drops: Annotated[bool, typer.Option("--drops", help="Only dropped packets.")] = False,
    sample: Annotated[int, typer.Option("--sample", min=1, metavar="N", help="Only one of N packets.")] = 1,
    count: Annotated[int | None, typer.Option("--count", "-c", min=1, help="End after so many frames.")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="End after so much time.")] = None,
) -> None:
    """Write packets as they came and as they left, the verdict in their comments, until Ctrl-C.

    Of several conditions a packet must meet all. Run it as root beside the gateway, in the same network namespace.

    Example: tgw capture --domain blue --drops no_route hairpin -w drops.pcapng

    Example: tgw capture --port corpnet --vlan 20 -w - | tcpdump -r -
    """
    if reasons and not drops:
        raise typer.BadParameter("reasons go with --drops", param_hint="REASON")
    if vlan and port is None:
        raise typer.BadParameter("a VLAN is one of a port: give --port", param_hint="--vlan")
    if write == "-" and sys.stdout.isatty():
        raise typer.BadParameter("pcapng is nothing for a terminal: name a file, or | tcpdump -r -", param_hint="-w")
    session: Session = context.obj
    conditions = _Conditions(port, vlan, domain, tuple(reasons or ()) if drops else None, sample)
    frames, lost = _capture(session, conditions, write, count, seconds)
    typer.echo(f"{frames:,} frames, {lost:,} lost{': narrow the conditions, or --sample' if lost else ''}", err=True)


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What was asked for, in words. `vlan` 0 is the port's own. `reasons` None: not only drops; empty: any drop."""

    port: str | None
    vlan: int
    domain: str | None
    reasons: tuple[str, ...] | None
    sample: int

    def wanted(self, capture: "Capture", configuration: "GatewayConfiguration", names: Mapping[str, str]) -> "Wanted":
        """Find the numbers of what was named. Errors: Failure."""
        from gateway.datapath.capture import Wanted

        known = capture.drop_reasons()
        return Wanted(
            port=None if self.port is None else _port(self.port, self.vlan, configuration),
            domain=None if self.domain is None else _domain(self.domain, names, capture.domain_numbers()),
            reasons=None if self.reasons is None else frozenset(_reason(reason, known) for reason in self.reasons),
            sample=self.sample,
        )


def _capture(
    session: Session, conditions: _Conditions, write: str, count: int | None, seconds: float | None
) -> tuple[int, int]:
    """Return how many frames were written, and how many lost. Errors: Failure."""
    from gateway.cli.recording import Recorder, ended_by_signals, opened
    from gateway.datapath.capture import Capture, CaptureError, alone, lock_of
    from gateway.datapath.libbpf import BpfError

    configuration = session.configuration
    recorder = None
    try:
        with ExitStack() as parts:
            ended = parts.enter_context(ended_by_signals())
            capture = Capture(configuration.datapath.pin_dir)
            parts.callback(capture.close)
            parts.enter_context(alone(lock_of(configuration.state_dir)))
            names = _domain_names(session)
            wanted = conditions.wanted(capture, configuration, names)
            stream = parts.enter_context(opened(write))
            recorder = Recorder(capture, stream, configuration, names)
            with capture.switched_on(wanted):
                typer.echo(f"capturing to {write}", err=True)
                recorder.record(ended, count, seconds)
    except BrokenPipeError:  # the reader of a pipe had enough
        pass
    except (CaptureError, BpfError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or write}: {error.strerror}") from error
    return (recorder.frames, capture.lost) if recorder else (0, 0)


def _domain_names(session: Session) -> dict[str, str]:
    """Names of the routing domains by RDID; where no daemon answers, captures go on without."""
    try:
        return {domain["id"]: domain["name"] for domain in session.get("/v1/status").json()["routing_domains"]}
    except Failure as failure:
        typer.echo(f"{failure.message}: routing domains are named by their ids", err=True)
        return {}


def _port(port: str, vlan: int, configuration: "GatewayConfiguration") -> tuple[int, int]:
    """Index of the interface, and VLAN."""
    ports = configuration.ports_by_name()
    if port not in ports:
        raise Failure(f"there is no port {port!r}", f"the configured ports are {', '.join(ports)}")
    name = ports[port].interface
    try:
        return socket.if_nametoindex(name), vlan or ports[port].vlan
    except OSError:
        raise Failure(f"port {port}: there is no interface {name} here", "run it in the gateway's namespace") from None


def _domain(asked: str, names: Mapping[str, str], numbers: Mapping[str, int]) -> int:
    for rdid, number in numbers.items():
        if asked.casefold() in (rdid, names.get(rdid, rdid).casefold()):
            return number
    known = ", ".join(names.get(rdid, rdid) for rdid in numbers) or "none"
    raise Failure(f"the datapath holds no routing domain {asked!r}", f"it holds {known}")


def _reason(reason: str, known: Mapping[str, int]) -> int:
    if reason not in known:
        raise Failure(f"there is no drop reason {reason!r}", f"the reasons are {', '.join(known)}")
    return known[reason]
