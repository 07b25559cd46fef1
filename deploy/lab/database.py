"""The database of a tenant's premises: it answers each line with its owner's name and what is asked for.

python -m deploy.lab.database OWNER PORT
"""

import socketserver
import sys


class Answer(socketserver.StreamRequestHandler):
    """One client, until it ends."""

    def handle(self) -> None:
        for line in self.rfile:
            question = line.decode(errors="replace").strip()
            self.wfile.write(f"{self.server.owner} {question} for {self.client_address[0]}\n".encode())  # type: ignore[attr-defined]


class Database(socketserver.ThreadingTCPServer):
    """Serves until it is ended."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, owner: str, port: int) -> None:
        super().__init__(("", port), Answer)
        self.owner = owner


if __name__ == "__main__":
    with Database(sys.argv[1], int(sys.argv[2])) as database:
        database.serve_forever()
