"""Rates of several routers, run in turn so that whatever else the machine does meets all of them alike."""

from dataclasses import dataclass
from statistics import median

from tests.bench.figures import Bound, Figure
from tests.bench.rig import Router
from tests.bench.traffic import Expected, Measurement, Sample, Traffic

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
    """The samples of each contestant."""
    samples: list[list[Sample]] = [[] for _ in contestants]
    for _ in range(pace.rounds):
        for taken, contestant in zip(samples, contestants, strict=True):
            sample = measurement.sample(contestant.traffic, contestant.router, contestant.expected, pace.seconds)
            taken.append(sample)
    return samples


def ratio(
    name: str, ours: list[Sample], other: list[Sample], unit: str, bound: Bound | None, remark: str = ""
) -> Figure:
    """The median of the ratios of neighbouring runs; no figure where a packet arrived wrong or none arrived."""
    faults = _faults(ours) or _faults(other)
    if faults:
        return Figure(name, 0.0, unit, bound, remark=faults)
    ratios = sorted(mine.rate / its.rate for mine, its in zip(ours, other, strict=True))
    remarks = [f"{_mpps(ours)} against {_mpps(other)} Mpps", _losses(ours), remark]
    return Figure(name, median(ratios), unit, bound, (ratios[0], ratios[-1]), ", ".join(filter(None, remarks)))


def rate(name: str, samples: list[Sample], remark: str = "") -> Figure:
    """Millions of packets a second."""
    faults = _faults(samples)
    if faults:
        return Figure(name, 0.0, "Mpps", remark=faults)
    rates = sorted(sample.rate / 1e6 for sample in samples)
    return Figure(name, median(rates), "Mpps", None, (rates[0], rates[-1]), remark)


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
