"""An S3 server in front of the real one that answers some requests as a store in trouble does."""

import threading
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from xml.etree import ElementTree

from heimdall_pipelines_tests.tcp_link import LOOPBACK

# As MinIO answers a PUT when its disks are full (cmd/api-errors.go: ErrStorageFull).
STORAGE_FULL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>XMinioStorageFull</Code><Message>Storage backend has '
    b"reached its minimum free drive threshold. Please delete a few objects to proceed.</Message>"
    b"<Resource>/</Resource><RequestId>1</RequestId><HostId>1</HostId></Error>"
)
# As SeaweedFS answers a GET of an object whose bytes do not match their checksum.
INTERNAL_ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code><Message>We encountered an internal '
    b"error, please try again.</Message><Resource>/</Resource><RequestId>1</RequestId></Error>"
)
_NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class S3Proxy:
    """Forwards requests to a server's port of this machine.

    Attributes
    ----------
    puts_until_full : int or None
        So many more PUTs find room; None: any number.
    lists_backwards : bool
        Listings come in the wrong order.
    unreadable : callable
        Whether a GET of an object's path fails with status 500.
    """

    def __init__(self, server_port: int) -> None:
        self.puts_until_full: int | None = None
        self.lists_backwards = False
        self.unreadable: Callable[[str], bool] = lambda _path: False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler(server_port))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()

    def _has_room(self) -> bool:
        with self._lock:
            if self.puts_until_full is None:
                return True
            if self.puts_until_full == 0:
                return False
            self.puts_until_full -= 1
            return True

    def _handler(self, server_port: int) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.command == "PUT" and not proxy._has_room():
                    self.answer(507, {"Content-Type": "application/xml"}, STORAGE_FULL, str(len(STORAGE_FULL)))
                    return
                if self.command == "GET" and "list-type=2" not in self.path and proxy.unreadable(self.path):
                    self.answer(500, {"Content-Type": "application/xml"}, INTERNAL_ERROR, str(len(INTERNAL_ERROR)))
                    return
                server = HTTPConnection(LOOPBACK, server_port)
                server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    server.putheader(name, value)
                server.endheaders(body or None)
                reply = server.getresponse()
                content = reply.read()
                if proxy.lists_backwards and "list-type=2" in self.path:
                    content = backwards(content)
                kept = {name: value for name, value in reply.getheaders() if name.lower() not in _NOT_FORWARDED}
                length = reply.getheader("Content-Length") if self.command == "HEAD" else None
                self.answer(reply.status, kept, content, length or str(len(content)))
                server.close()

            def answer(self, status: int, headers: dict[str, str], content: bytes, length: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

        return Handler


def backwards(listing: bytes) -> bytes:
    """The same page of a listing, its objects in the reverse order."""
    root = ElementTree.fromstring(listing)
    contents = [child for child in root if child.tag.endswith("Contents")]
    for child in contents:
        root.remove(child)
    root.extend(reversed(contents))
    return ElementTree.tostring(root)


def port_of(endpoint: str) -> int:
    """Of ``host:port``."""
    return int(endpoint.rpartition(":")[2])
