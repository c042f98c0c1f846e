"""A TCP link to a server of this machine that tests can cut and repair."""

import contextlib
import socket
import threading
import time
from typing import Self

LOOPBACK = "127.0.0.1"
_POLL_S = 0.1
_PIECE_BYTES = 16 * 1024


class TcpLink:
    """Forwards ``port`` to a server's port; cut, it breaks every connection and takes no new one."""

    def __init__(self, server_port: int, host: str = LOOPBACK) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((host, 0))
        self._listener.settimeout(_POLL_S)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._connected: set[socket.socket] = set()
        self._is_cut = False
        self._is_closed = False
        self._bytes_left: int | None = None
        self._delay_s = 0.0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._is_closed = True
        self.cut()
        self._accepting.join()
        self._listener.close()

    @property
    def is_cut(self) -> bool:
        """Whether the server cannot be reached at present."""
        return self._is_cut

    def cut(self) -> None:
        """Break it, now."""
        with self._lock:
            self._break()

    def cut_after(self, num_bytes: int) -> None:
        """Break it as soon as the server has sent so many bytes from now on, be it in the middle of an answer."""
        with self._lock:
            self._bytes_left = num_bytes

    def slow_down(self, delay_s: float) -> None:
        """Let every piece of the server's answers, 16 kB or less, wait so long."""
        self._delay_s = delay_s

    def repair(self) -> None:
        """Let everything through again, at once."""
        with self._lock:
            self._is_cut, self._bytes_left, self._delay_s = False, None, 0.0

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            client.settimeout(None)
            try:
                server = socket.create_connection((LOOPBACK, self._server_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._connected |= {client, server}
                if self._is_cut:
                    self._break()
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=(source, sink, is_answer), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                sink.sendall(self._let_through(piece) if is_answer else piece)
                if self._has_ended():
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._connected.discard(source)
        source.close()

    def _has_ended(self) -> bool:
        with self._lock:  # looked and done at once: a cut that came after `repair` would stay
            if self._bytes_left == 0:
                self._break()
            return self._is_cut

    def _break(self) -> None:
        self._is_cut = True
        for end in self._connected:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _let_through(self, piece: bytes) -> bytes:
        time.sleep(self._delay_s)
        with self._lock:
            if self._bytes_left is not None:
                piece = piece[: self._bytes_left]
                self._bytes_left -= len(piece)
            return piece
