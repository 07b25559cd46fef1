"""What one check found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one thing (`check`) of the machine or of an interface (`subject`).

    `failed`: the datapath will not run, or not rightly. `warning`: it runs, with the drawback named in `detail`.
    `unknown`: it cannot be seen from here. `mend` is the command, or the act, that makes it ok; empty if it is.
    """

    subject: str
    check: str
    state: State
    detail: str
    mend: str = ""
