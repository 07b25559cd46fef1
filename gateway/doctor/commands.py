"""Output of the system's own tools."""

import json
import subprocess
from typing import Any


def output(*command: str) -> str | None:
    """Return what a command prints; None if it is not installed or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def json_output(*command: str) -> Any:
    """Return the JSON that a command prints; an empty list if it is not installed or fails."""
    return json.loads(output(*command) or "[]")
