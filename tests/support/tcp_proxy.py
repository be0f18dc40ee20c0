"""A TCP proxy on the loopback that can refuse connections and cut them in the middle."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["TcpProxy"]


class TcpProxy:
    """Forwards connections to a port during the block.

    Attributes:
        cut_after: Number of bytes from a client after which its connection is cut; None never cuts.
        refuses: Whether new connections are closed at once.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.cut_after: int | None = None
        self.refuses = False
        self.cuts = 0
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every open connection."""
        for each in list(self._sockets):
            self._close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_from_client: bool) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(4096):
                sent += len(data)
                if is_from_client and self.cut_after is not None and sent > self.cut_after:
                    self.cuts += 1
                    break
                sink.sendall(data)
        self._close(source)
        self._close(sink)

    def _close(self, each: socket.socket) -> None:
        self._sockets.discard(each)
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
