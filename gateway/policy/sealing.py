"""Encryption of what the store may not show, with a key in a file beside it."""

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from gateway.policy.store_errors import StoreError

KEY_FILE = "secrets.key"


class Seal:
    """Authenticated encryption with the key in a file of mode 0600, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            _make(path)
        try:
            self._cipher = Fernet(path.read_bytes().strip())
        except ValueError:
            raise StoreError(f"{path}: is not a key for the policy's secrets: restore it from a backup") from None

    def seal(self, text: str) -> str:
        """Encrypt a text."""
        return self.seal_bytes(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Return the text that was sealed. Raises StoreError where another key did it."""
        return self.unseal_bytes(sealed.encode()).decode()

    def seal_bytes(self, data: bytes) -> bytes:
        """Encrypt bytes."""
        return self._cipher.encrypt(data)

    def unseal_bytes(self, sealed: bytes) -> bytes:
        """Return the bytes that were sealed. Raises StoreError where another key did it."""
        try:
            return self._cipher.decrypt(sealed)
        except InvalidToken:
            raise StoreError(
                f"{self.path}: is not the key that the secrets of the policy store were encrypted with: "
                "restore it from a backup, or move the store away and push the policy again"
            ) from None


def _make(path: Path) -> None:
    """Make the key whole and durable before its name is."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
