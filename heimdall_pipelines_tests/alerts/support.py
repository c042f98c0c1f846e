"""A webhook that can be down, refuse, and come back; and alerts to send to it."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from heimdall_pipelines.store.alerts import CheckEvaluation, FailedRun
from heimdall_pipelines_tests.held_port import held_port

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOG = "the log of a test"
TOKEN = "T0KEN-of-a-webhook"
PASSWORD = "pass-w0rd-of-a-webhook"
TIMEOUT_S = 1200.0  # of sending: a busy machine may take long, and nothing has failed then


class Webhook:
    """A real HTTP server on one port, which Apprise's json:// posts to; down at first."""

    def __init__(self):
        self.messages = []
        self.num_refused = 0
        self.status = 200
        self._server = None
        self.port = held_port()  # also while it is down

    @property
    def url(self):
        # Apprise waits 4 s, for the connection and for the answer, unless its timeout is set.
        return f"json://heimdall:{PASSWORD}@127.0.0.1:{self.port}/{TOKEN}?cto={TIMEOUT_S:g}&rto={TIMEOUT_S:g}"

    @property
    def titles(self):
        return [message["title"] for message in self.messages]

    def up(self):
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if webhook.status == 200:
                    webhook.messages.append(message)
                else:
                    webhook.num_refused += 1
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def down(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def evaluation(
    event_id, *, passed=False, severity="ERROR", partition="p1", check="rows_agree", after_s=None, **changes
):
    """An evaluation of a check; by default it failed, as many seconds after START as its id."""
    values = {
        "event_id": event_id,
        "evaluated_at": START + timedelta(seconds=event_id if after_s is None else after_s),
        "asset": "recorded/measurement_features",
        "check_name": check,
        "partition": partition,
        "passed": passed,
        "severity": severity,
        "run_id": f"run-{event_id}",
        "title": f"{severity}: check {check} of recorded/measurement_features for {partition} failed",
        "body": f"problems {event_id}",
        "numbers": {"problems": event_id},
    }
    return CheckEvaluation(**values | changes)


def failed_run(event_id, run_id="run-a", **changes):
    """A run that failed."""
    values = {
        "event_id": event_id,
        "failed_at": START + timedelta(seconds=event_id),
        "run_id": run_id,
        "partition": "p1",
        "title": "ERROR: run of make_synthetic_batches failed for p1",
        "body": "disk full",
    }
    return FailedRun(**values | changes)
