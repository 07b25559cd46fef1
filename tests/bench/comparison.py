"""Rates of several routers, run in turn so that whatever else the machine does meets all of them alike."""

from dataclasses import dataclass
from statistics import median, quantiles

from tests.bench.figures import Bound, Figure
from tests.bench.rig import Router
from tests.bench.traffic import Expected, Measurement, Sample, Traffic

_PILOT = 20_000
_LOSS_WORTH_SAYING = 0.001


@dataclass(frozen=True, slots=True)
class Contestant:
    router: Router
    traffic: Traffic
    expected: Expected


@dataclass(frozen=True, slots=True)
class Pace:
    """How many runs each contestant gets, and of how many seconds each."""

    rounds: int
    seconds: float


def run_in_turn(measurement: Measurement, pace: Pace, *contestants: Contestant) -> list[list[Sample]]:
    """Return the samples of each contestant."""
    pilots = [_send(measurement, contestant, _PILOT).rate for contestant in contestants]
    counts = [max(_PILOT, int(rate * pace.seconds)) for rate in pilots]
    rounds = [
        [_send(measurement, contestant, count) for contestant, count in zip(contestants, counts, strict=True)]
        for _ in range(pace.rounds)
    ]
    return [list(samples) for samples in zip(*rounds, strict=True)]


def _send(measurement: Measurement, contestant: Contestant, count: int) -> Sample:
    return measurement.send(contestant.traffic, contestant.router, contestant.expected, count)


def ratio(name: str, ours: list[Sample], other: list[Sample], unit: str, bound: Bound | None) -> Figure:
    """Take the median of the ratios of neighbouring runs; it is 0 where a packet arrived wrong, or none."""
    faults = _faults(ours) or _faults(other)
    if faults:
        return Figure(name, 0.0, unit, bound, remark=faults)
    ratios = [mine.rate / its.rate for mine, its in zip(ours, other, strict=True)]
    remarks = [f"{_mpps(ours)} against {_mpps(other)} Mpps", _losses(ours)]
    return Figure(name, median(ratios), unit, bound, _middle_half(ratios), ", ".join(filter(None, remarks)))


def rate(name: str, samples: list[Sample], remark: str = "") -> Figure:
    """Take the median of the rates; it is 0 where a packet arrived wrong, or none."""
    faults = _faults(samples)
    if faults:
        return Figure(name, 0.0, "Mpps", remark=faults)
    rates = [sample.rate / 1e6 for sample in samples]
    return Figure(name, median(rates), "Mpps", None, _middle_half(rates), remark)


def _middle_half(values: list[float]) -> tuple[float, float]:
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def _mpps(samples: list[Sample]) -> str:
    return f"{median(sample.rate for sample in samples) / 1e6:.2f}"


def _losses(samples: list[Sample]) -> str:
    lost = 1 - median(sample.arrived for sample in samples)
    return f"{lost:.1%} not forwarded" if lost > _LOSS_WORTH_SAYING else ""


def _faults(samples: list[Sample]) -> str:
    if any(sample.arrived == 0 for sample in samples):
        return "NO PACKET ARRIVED"
    wrong = max(sample.wrong for sample in samples)
    return f"WRONG PACKETS: {wrong:.1%} of those read" if wrong else ""
