"""What a page of another site can have a browser send to the Dagster UI, and what the guard lets through."""

import json
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from heimdall_pipelines.cluster.request_guard import RequestGuard, allowed_hosts
from heimdall_pipelines.settings import LocalSettings
from heimdall_pipelines_tests.browser import browser_command
from heimdall_pipelines_tests.dagster_ui import running_ui
from heimdall_pipelines_tests.waiting import TIMEOUT_S, wait_for

GUARDED = "heimdall_pipelines.cluster.guarded_webserver"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OWN = "http://127.0.0.1:3000"


def scope(method="GET", path="/graphql", kind="http", **headers):
    named = {"host": "127.0.0.1:3000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(name.encode(), value.encode()) for name, value in named.items() if value is not None]
    return {"type": kind, "method": method, "path": path, "headers": pairs}


def status(request, *hosts):
    refusal = RequestGuard(None, hosts).refusal(request)
    return refusal and refusal.status


@pytest.mark.parametrize(
    "request_",
    [
        scope(path="/runs"),
        scope(path="/runs", host="localhost:3000"),
        scope(path="/runs", host="LOCALHOST."),
        scope(path="/", host="[::1]:3000", origin="http://[::1]:3000"),
        scope("POST", content_type="application/json", origin=OWN),
        scope("POST", content_type="application/json; charset=utf-8"),
        scope("POST", content_type="application/graphql", sec_fetch_site="same-origin"),
        scope(accept="text/html"),
        scope(kind="websocket", origin=OWN),
        scope(kind="websocket"),
        scope(path="/runs/1", sec_fetch_site="cross-site", sec_fetch_mode="navigate"),  # a link in a mail
        scope("POST", "/report_asset_materialization/a", content_type="application/json"),
        scope("HEAD", "/server_info"),
    ],
)
def test_the_ui_itself_links_and_programs_are_let_through(request_):
    assert status(request_) is None


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (scope(path="/", host="evil.example"), 421),
        (scope(path="/", host="127.0.0.1.evil.example:3000"), 421),
        (scope(path="/", host="evil.example:80@127.0.0.1"), 421),
        (scope(path="/", host="192.168.1.7:3000"), 421),
        (scope(path="/", host=""), 421),
        (scope(path="/", host=None), 421),
        (scope(path="/server_info", origin="http://evil.example"), 403),
        (scope(path="/server_info", origin="null"), 403),
        (scope(path="/server_info", origin="http://127.0.0.1:8000"), 403),
        (scope(path="/server_info", origin="file://127.0.0.1:3000"), 403),
        (scope("POST", content_type="application/json", origin="http://localhost:3000"), 403),
        (scope("POST", content_type="application/json", origin="http://127.0.0.1:3000.evil.example"), 403),
        (scope("POST", content_type="application/json", sec_fetch_site="cross-site"), 403),
        (scope("POST", content_type="application/json", sec_fetch_site="same-site"), 403),
        (scope("POST", content_type="application/json", sec_fetch_site="cross-site", sec_fetch_mode="navigate"), 403),
        (scope("POST", "/report_asset_check/a", origin="http://evil.example"), 403),
        (scope(path="/logs/a.err", sec_fetch_site="cross-site", sec_fetch_mode="no-cors"), 403),
        (scope(), 405),
        (scope(accept="*/*"), 405),
        (scope(path="/graphql/"), 405),
        (scope(path="/prefix/graphql"), 405),
        (scope("HEAD"), 405),
        (scope("PUT", "/runs"), 405),
        (scope("POST"), 415),
        (scope("POST", content_type="text/plain"), 415),
        (scope("POST", content_type="text/plain; application/json"), 415),
        (scope("POST", content_type="application/x-www-form-urlencoded"), 415),
        (scope("POST", content_type="multipart/form-data; boundary=x"), 415),
        (scope(kind="websocket", origin="http://evil.example"), 403),
        (scope(kind="websocket", host="evil.example"), 421),
    ],
)
def test_all_that_another_page_can_send_is_refused(request_, expected):
    assert status(request_) == expected


def test_a_header_that_comes_twice_is_refused():
    twice = scope(path="/runs")
    twice["headers"].append((b"Host", b"127.0.0.1"))
    assert status(twice) == 421
    twice = scope(path="/runs", origin=OWN)
    twice["headers"].append((b"origin", OWN.encode()))
    assert status(twice) == 403


def test_hosts_are_allowed_by_settings():
    settings = LocalSettings(
        ui_url="https://Heimdall.example.org/dagster",
        ui_allowed_hosts="ui.example:8443, [fd00::7], https://other.example",
    )
    hosts = allowed_hosts(settings)
    assert hosts == {"heimdall.example.org", "ui.example", "[fd00::7]", "other.example"}
    behind_proxy = {"host": "heimdall.example.org", "origin": "https://heimdall.example.org"}
    assert status(scope("POST", content_type="application/json", **behind_proxy), *hosts) is None
    assert status(scope("POST", content_type="application/json", **behind_proxy)) == 421
    assert allowed_hosts(LocalSettings()) == frozenset()


def mutation(key):
    return f'mutation {{ setConcurrencyLimit(concurrencyKey: "{key}", limit: 1) }}'


def sent(address, path, *, body=None, headers=None, method=None):
    """Status of a request, as curl sends it."""
    request = urllib.request.Request(f"{address}{path}", body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def keys(address):
    """Keys that mutations have set."""
    query = json.dumps({"query": "{ instance { concurrencyLimits { concurrencyKey } } }"}).encode()
    request = urllib.request.Request(f"{address}/graphql", query, JSON)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        limits = json.load(answer)["data"]["instance"]["concurrencyLimits"]
    return {limit["concurrencyKey"] for limit in limits}


def attacks(address):
    """Send what pages of other sites can have a browser send, each with its own mutation."""
    found = []
    foreign = {"Origin": "http://evil.example"}

    def attack(key, *, path="/graphql", **options):
        found.append(sent(address, path, **options))

    def query(key):
        return f"/graphql?query={urllib.parse.quote(mutation(key))}"

    def body(key):
        return json.dumps({"query": mutation(key)}).encode()

    attack("get", path=query("get"))
    attack("get-foreign", path=query("get-foreign"), headers=foreign | {"Host": "evil.example"})
    attack("get-accept", path=query("get-accept"), headers={"Accept": "image/*"})
    attack("form", path=query("form"), body=b"", headers=FORM)
    attack("plain", path=query("plain"), body=b"x", headers={"Content-Type": "text/plain"})
    attack("trick", body=body("trick"), headers={"Content-Type": "text/plain; application/json"})
    attack("foreign", body=body("foreign"), headers=JSON | foreign)
    attack("null", body=body("null"), headers=JSON | {"Origin": "null"})
    attack("host", body=body("host"), headers=JSON | {"Host": "evil.example"})
    attack("port", body=body("port"), headers=JSON | {"Origin": "http://127.0.0.1:1"})
    return found


@pytest.fixture
def ui(tmp_path, monkeypatch):
    """Run a UI, guarded or not, on an instance of its own."""
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return lambda program: running_ui(tmp_path, program)


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.fault("a page of another site sends mutations to the Dagster UI")
def test_the_guard_refuses_what_dagster_executes(ui, fault):
    with ui("dagster_webserver") as address:
        assert set(attacks(address)) == {200}
        assert len(keys(address)) == 10  # all of them: what is refused below would be executed
    with ui(GUARDED) as address:
        before = keys(address)
        refused = attacks(address)
        assert set(refused) == {403, 405, 415, 421}
        assert sent(address, "/graphql", body=json.dumps({"query": mutation("own")}).encode(), headers=JSON) == 200
        own = JSON | {"Origin": address}
        assert sent(address, "/graphql", body=json.dumps({"query": mutation("ui")}).encode(), headers=own) == 200
        assert keys(address) - before == {"own", "ui"}
        assert sent(address, "/graphql", headers={"Accept": "text/html"}) == 200  # GraphiQL's page
        assert sent(address, "/runs", headers={"Accept": "text/html"}) == 200
        assert websocket_status(address, "http://evil.example") == 403
        assert websocket_status(address, address) == 101
    fault.record(
        detected_by="the guard in front of the UI: Host, Origin, method and type of the request",
        result="refused with 403, 405, 415 or 421, nothing is executed; the UI and programs work as before",
    )


def websocket_status(address, origin):
    host, _, port = address.removeprefix("http://").partition(":")
    lines = [
        "GET /graphql HTTP/1.1", f"Host: {host}:{port}", f"Origin: {origin}", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: graphql-ws", "", "",
    ]  # fmt: skip
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.recv(64).split()[1])


EVIL_PAGE = """<!doctype html><body>
<img src="ADDRESS/graphql?query=QUERY_IMG">
<iframe name="target"></iframe>
<form id="form" method="post" target="target" action="ADDRESS/graphql?query=QUERY_FORM"></form>
<script>
const send = (options) => fetch("ADDRESS/graphql", options).catch(() => 0);
const body = (query) => JSON.stringify({query});
document.getElementById("form").submit();
Promise.all([
  fetch("ADDRESS/graphql?query=QUERY_GET", {mode: "no-cors"}).catch(() => 0),
  send({method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: body(`MUTATION_PLAIN`)}),
  send({method: "POST", headers: {"Content-Type": "application/json"}, body: body(`MUTATION_JSON`)}),
  new Promise((done) => {
    const socket = new WebSocket("WS/graphql", "graphql-ws");
    socket.onclose = socket.onerror = done;
    socket.onopen = () => { socket.close(); fetch("/opened").finally(done); };
  }),
]).finally(() => fetch("/done"));
</script>"""


class EvilSite:
    """A web page on another port of this machine, and what its script reports; a context manager."""

    def __init__(self, page):
        self.visited = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.visited.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_error):
        self._server.shutdown()
        self._server.server_close()


def evil_page(address):
    page = EVIL_PAGE.replace("ADDRESS", address).replace("WS/", f"ws{address.removeprefix('http')}/")
    for kind in ("IMG", "FORM", "GET"):
        page = page.replace(f"QUERY_{kind}", urllib.parse.quote(mutation(kind.lower())))
    return page.replace("MUTATION_PLAIN", mutation("plain")).replace("MUTATION_JSON", mutation("json"))


@pytest.mark.slow
@pytest.mark.programs
def test_a_page_in_a_browser_writes_nothing(ui, tmp_path):
    command = browser_command(tmp_path / "profile")
    with ui(GUARDED) as address, EvilSite(evil_page(address)) as site:
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port=0", site.address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for("the page's script to end", lambda: "/done" in site.visited)
        finally:
            browser.kill()
            browser.wait()
        assert "/opened" not in site.visited
        assert keys(address) == set()
        shown = subprocess.run(
            [*browser_command(tmp_path / "second"), "--virtual-time-budget=20000", "--dump-dom", address],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        assert "Overview" in shown.stdout or "Runs" in shown.stdout  # the UI itself works behind the guard
