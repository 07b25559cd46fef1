"""Programs of the lab that run on a node until they are told to end, and then report."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.lab.errors import CommandError
from deploy.lab.running import RunningLab


@contextmanager
def running(lab: RunningLab, node: str, module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = lab.inside(node, sys.executable, "-m", f"deploy.lab.{module}", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def await_word(process: "subprocess.Popen[str]", word: str) -> None:
    """Return when the program has said the word. Errors: CommandError, when it says anything else or ends."""
    if process.stdout is None or process.stdout.readline() != f"{word}\n":
        raise CommandError(f"{process.args!r} ended before it said {word}")
