"""Where policy changes: validated whole, stored, numbered, and then programmed in the order of the numbers."""

from gateway.transactions.terms import (
    ConflictError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
    Receipt,
    Terms,
)
from gateway.transactions.transactions import Held, Transactions
from gateway.transactions.worker import Programmed, Programs

__all__ = [
    "ConflictError",
    "Held",
    "KeyReusedError",
    "NotFoundError",
    "PreconditionError",
    "Programmed",
    "Programs",
    "Receipt",
    "Terms",
    "Transactions",
]
