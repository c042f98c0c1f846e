"""deploy/Caddyfile with the real proxy: the login, and what pages of other sites send with it."""

import base64
import os
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.held_port import held_port
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.programs
LOGIN = {"Authorization": f"Basic {base64.b64encode(b'somebody:open').decode()}"}


class Upstream:
    """Stands for the webserver: counts what gets through."""

    def __init__(self):
        self.requested = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                upstream.requested.append(self.path)
                self.send_response(200)
                self.end_headers()

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def upstream():
    made = Upstream()
    yield made
    made.close()


@pytest.fixture
def proxy(upstream, tmp_path):
    """Caddy on loopback; gives a function that sends a request and returns its status."""
    if shutil.which("caddy") is None:
        pytest.skip("no caddy on this machine")
    hashed = subprocess.run(["caddy", "hash-password", "--plaintext", "open"], capture_output=True, check=True)
    address = f"127.0.0.1:{held_port()}"
    environment = {
        "HEIMDALL_PROXY_SITE": f"http://{address}",
        "HEIMDALL_PROXY_USER": "somebody",
        "HEIMDALL_PROXY_PASSWORD_HASH": hashed.stdout.decode().strip(),
        "HEIMDALL_PROXY_UPSTREAM": upstream.address,
        "CADDY_ADMIN": f"127.0.0.1:{held_port()}",
        "HOME": str(tmp_path),
    }
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(PROJECT_FOLDER / "deploy" / "Caddyfile")]

    def status(path="/runs", *, body=None, login=True, **headers):
        named = (LOGIN if login else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{address}{path}", body, named)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return None  # not there yet

    with subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL) as caddy:
        try:
            wait_for("Caddy to answer", lambda: status(login=False))
            yield status, f"http://{address}"
        finally:
            caddy.kill()


def test_a_page_of_another_site_gets_nothing_through(proxy, upstream):
    status, own = proxy
    assert status(login=False) == 401
    foreign = [
        status("/graphql?query=mutation"),
        status("/graphql?query=mutation", Accept="image/*"),
        status("/graphql/?query=mutation"),
        status("/graphql", body=b"{}", Content_Type="application/json", Origin="http://evil.example"),
        status("/graphql", body=b"{}", Content_Type="application/json", Origin="null"),
        status("/graphql", body=b"{}", Content_Type="application/json", Origin=f"{own}.evil.example"),
        status("/report_asset_check/a", body=b"{}", Origin="http://evil.example"),
        status("/graphql", Upgrade="websocket", Origin="http://evil.example"),
    ]
    assert foreign == [405, 405, 405, 403, 403, 403, 403, 403]
    status("/runs", Host="evil.example")  # Caddy answers hosts that it does not serve with an empty page
    assert upstream.requested == []
    assert status() == 200
    assert status("/graphql", body=b"{}", Content_Type="application/json", Origin=own) == 200
    assert status("/graphql", body=b"{}", Content_Type="application/json") == 200
    assert status("/graphql", Accept="text/html") == 200
    assert len(upstream.requested) == 4
