"""Random numbers that another run can have again."""

from random import Random

import pytest


def seeded(what: str, capsys: pytest.CaptureFixture[str]) -> Random:
    """Return random numbers that no run had before, and print their seed beside what they are for."""
    seed = Random().randrange(1 << 32)
    with capsys.disabled():
        print(f"\n{what}: seed {seed}")
    return Random(seed)
