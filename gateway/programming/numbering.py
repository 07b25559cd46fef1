"""Numbers that last: connections carry them, so they outlive commits and restarts, and none is given again at once."""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import TypeVar

from gateway.programming.block import CapacityError

Key = TypeVar("Key")


def assigned(
    wanted: Iterable[Key], before: Mapping[Key, int], numbers: range, what: str, used: Collection[int] = ()
) -> dict[Key, int]:
    """Give each of `wanted` one of `numbers`: the one it had, else the lowest that nobody had and that is not `used`.

    Raises CapacityError; `what` says what is numbered.
    """
    keys = dict.fromkeys(wanted)
    found = {key: before[key] for key in keys if key in before}
    taken = {*before.values(), *used}
    new = [key for key in keys if key not in before]
    free = list(islice((number for number in numbers if number not in taken), len(new)))
    if len(free) < len(new):
        raise CapacityError(f"{len(keys)} {what} are wanted, at most {len(numbers)} fit, those that just went included")
    return found | dict(zip(new, free, strict=True))
