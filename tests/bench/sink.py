"""A mail server that accepts everything at once and keeps nothing: ``python -m tests.bench.sink`` prints its port.

It speaks as little SMTP as a client with PIPELINING needs, so that what is measured is the client. Every connection ends
with the number of messages it brought, which ``count`` asks for.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_total = 0


def _serve(connection: socket.socket) -> None:
    global _total
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"220 sink\r\n")
    buffer, in_data = b"", False
    while chunk := connection.recv(1 << 18):
        buffer += chunk
        answers = []
        while True:
            if in_data:
                end = buffer.find(b"\r\n.\r\n")
                if end < 0:
                    break
                buffer, in_data = buffer[end + 5 :], False
                _total += 1
                answers.append(b"250 2.0.0 Accepted\r\n")
                continue
            line, found, rest = buffer.partition(b"\r\n")
            if not found:
                break
            buffer = rest
            verb = line[:4].upper()
            if verb == b"DATA":
                # The final dot of an empty message would need the line break of this line.
                in_data = True
                answers.append(b"354 Go on\r\n")
            elif verb == b"EHLO":
                answers.append(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"QUIT":
                answers.append(b"221 Bye\r\n")
            elif verb == b"VRFY":
                answers.append(b"252 %d\r\n" % _total)
            else:
                answers.append(b"250 OK\r\n")
        if answers:
            connection.sendall(b"".join(answers))
    connection.close()


def main() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        connection, _peer = server.accept()
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


class Sink:
    """The server in a process of its own, for a ``with`` statement."""

    def __enter__(self) -> Sink:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.sink"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def options(self) -> dict[str, object]:
        """What ``settings.EMAIL`` says to send here."""
        return {
            "kind": "smtp", "host": "127.0.0.1", "port": self.port, "user": "", "password": "", "ssl": False, "tls": False
        }  # fmt: skip

    def count(self) -> int:
        """Messages taken so far, by all connections."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.recv(100)
            connection.sendall(b"VRFY\r\n")
            return int(connection.recv(100).split()[1])


if __name__ == "__main__":
    main()
