"""The sensor of alerts on a real Dagster instance with PostgreSQL, and a real webhook."""

import uuid
from datetime import UTC, timedelta

import dagster as dg
import psycopg2
import pytest
from pydantic import SecretStr

from heimdall_pipelines.alerts import delivery
from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs import alerts
from heimdall_pipelines.defs.alerts import Cursor, failed_asset_check_alerts, note_and_deliver
from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.alerts import close_alerts_of_deleted, list_alerts, note_evaluations
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines.store.recordings import RecordedSession, open_recording_session
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.alerts.support import LOG, PASSWORD, TOKEN, Webhook, evaluation
from heimdall_pipelines_tests.datasets.support import add
from heimdall_pipelines_tests.defs.support import dagster_database, postgres_storage
from heimdall_pipelines_tests.shared_stack import PROCESS

UI = "http://127.0.0.1:3000"
KINDS = {"evaluations": dg.DagsterEventType.ASSET_CHECK_EVALUATION, "failures": dg.DagsterEventType.RUN_FAILURE}


class DiskFullError(HeimdallError):
    """As a step of this project would raise it."""


def rows_and_check(behaviour):
    """An asset and its check, whose behaviour a test sets."""

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["p1", "p2"]))
    def rows(context) -> None:
        if behaviour.get("error"):
            raise behaviour["error"]

    @dg.asset_check(asset=rows)
    def rows_agree() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=behaviour.get("passed", False),
            severity=behaviour.get("severity", dg.AssetCheckSeverity.ERROR),
            metadata={
                "problems": 3,
                "share": 0.5,
                "examples": dg.MetadataValue.md("- row 7"),
                "to_repair": "repair it",
            },
        )

    return [rows, rows_agree]


@pytest.fixture(scope="module")
def dagster_settings(server_settings):
    with dagster_database(server_settings, f"dagster_of_alerts_{PROCESS}") as made:
        yield made


@pytest.fixture(scope="module")
def instance(dagster_settings):
    overrides = {
        "storage": postgres_storage(dagster_settings),
        "run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False},
    }
    with dg.instance_for_test(overrides=overrides, set_dagster_home=False) as made:
        yield made


@pytest.fixture
def webhook():
    made = Webhook().up()
    yield made
    made.down()


@pytest.fixture
def alerting(instance, dagster_settings, stores, settings, webhook):
    return Alerting(instance, dagster_settings, stores, settings, webhook)


class Alerting:
    """Runs, evaluations and ticks of a test; its first tick begins where the tests before it ended."""

    def __init__(self, instance, dagster_settings, stores, settings, webhook):
        self.instance = instance
        self.dagster_settings = dagster_settings
        self.stores = stores
        self.settings = settings.model_copy(update={"alert_urls": SecretStr(webhook.url), "ui_url": UI})
        self.webhook = webhook
        self.behaviour = {}
        newest = {name: self._records(kind, 1, ascending=False) for name, kind in KINDS.items()}
        self.start = str(Cursor(**{name: records[0].storage_id for name, records in newest.items() if records}))
        self.cursor = self.start

    def _records(self, kind, limit, **options):
        return self.instance.event_log_storage.get_event_records(dg.EventRecordsFilter(kind), limit, **options)

    def run(self, partition="p1", **behaviour):
        self.behaviour = behaviour
        return dg.materialize(
            rows_and_check(behaviour), partition_key=partition, instance=self.instance, raise_on_error=False
        )

    def report(
        self,
        partition="p1",
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        in_place_of_run=None,
        asset=("recorded", "rows"),
    ):
        """An evaluation that was made without a run."""
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset),
            check_name="rows_agree",
            passed=passed,
            severity=severity,
            metadata={"problems": 3},
            partition=partition,
        )
        if in_place_of_run is not None:
            kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
            event = dg.DagsterEvent(kind, job_name="", event_specific_data=evaluation)
            self.instance.report_dagster_event(event, run_id=in_place_of_run)
            return
        # Dagster 1.13 refuses a second one of a check and partition, by an index that is meant for runs.
        execute(self.dagster_settings, "DELETE FROM asset_check_executions WHERE run_id = ''")
        self.instance.report_runless_asset_event(evaluation)

    def report_many(self, number):
        """So many evaluations of partitions p1, p2, ...: copies of one, since Dagster takes its time."""
        self.report("p1")
        execute(
            self.dagster_settings,
            "INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition)"
            " SELECT run_id, replace(event, '\"p1\"', '\"p' || n || '\"'), dagster_event_type, timestamp, asset_key,"
            " 'p' || n FROM event_logs, generate_series(2, %s) AS n WHERE id = (SELECT max(id) FROM event_logs)",
            number,
        )

    def tick(self, later_s=0.0):
        """One tick, so many seconds after the newest event, however long the machine took since."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        (newest,) = execute(self.dagster_settings, "SELECT max(timestamp) FROM event_logs")
        now = newest.replace(tzinfo=UTC) + timedelta(seconds=later_s)
        outcome = note_and_deliver(self.instance, self.stores, self.settings, context.log, context.cursor, now)
        self.cursor = str(outcome.cursor)
        return outcome

    @property
    def table(self):
        return [overview.alert for overview in reversed(list_alerts(self.stores.database, 1000))]


def test_each_failed_check_is_sent_once_with_numbers_and_link(alerting, webhook):
    run_id = alerting.run().run_id
    for later_s in (0, 30, 60, 90, 120):
        alerting.tick(later_s)
    (message,) = webhook.messages
    assert message["title"] == "ERROR: check rows_agree of rows failed"
    lines = message["message"].splitlines()
    assert lines[:-1] == ["problems 3", "- row 7", "To repair it: repair it", f"{UI}/runs/{run_id}"]
    (alert,) = alerting.table
    assert (alert.asset, alert.check_name, alert.severity, alert.run_id) == ("rows", "rows_agree", "ERROR", run_id)
    assert alert.numbers == {"problems": 3}


def test_a_warning_is_one_and_its_rise_to_an_error_is_sent_again(alerting, webhook):
    alerting.run(severity=dg.AssetCheckSeverity.WARN)
    alerting.tick()
    alerting.run()
    alerting.tick()
    assert [message["type"] for message in webhook.messages] == ["warning", "failure"]
    assert len(alerting.table) == 1


@pytest.mark.slow
def test_a_recovery_is_sent_and_a_later_failure_is_a_new_incident(alerting, webhook):
    for passed in (False, False, True, False):
        alerting.run(passed=passed)
        alerting.tick()
    assert [message["type"] for message in webhook.messages] == ["failure", "success", "failure"]
    assert [alert.recovered_at is None for alert in alerting.table] == [False, True]


def test_a_check_without_a_run_is_sent_with_a_link_to_its_asset(alerting, webhook):
    alerting.report("night one")
    alerting.tick()
    (message,) = webhook.messages
    assert message["title"] == "ERROR: check rows_agree of recorded/rows for night one failed"
    assert f"{UI}/assets/recorded/rows?view=checks&checkDetail=rows_agree" in message["message"]
    alerting.report("night two", in_place_of_run=str(uuid.uuid4()))
    alerting.tick()
    assert "/assets/" in webhook.messages[1]["message"]
    assert [alert.run_id for alert in alerting.table] == [None, None]


def test_an_incident_of_a_session_is_one_by_its_id_and_its_slug(alerting, webhook):
    """Partitions were called by ids before there were slugs; alerts have the slug."""
    session = open_recording_session(
        alerting.stores.database, RecordedSession("night", "n", 1.0, 1.0, None, deadline_in_s=60.0)
    )
    asset = ("recorded", "measurement_features")
    alerting.report(str(session.id), asset=asset)
    alerting.tick()
    alerting.report(session.slug, asset=asset)
    alerting.tick()
    alerting.report(session.slug, asset=asset, passed=True)
    alerting.tick()
    (alert,) = alerting.table
    assert (alert.partition, alert.recovered_at is None, alert.closed_at) == ("night", False, None)
    title = "check rows_agree of recorded/measurement_features for night"
    assert webhook.titles == [f"ERROR: {title} failed", f"Passes again: {title}"]


def test_an_incident_of_a_deleted_session_is_closed_though_its_partition_is_an_id(alerting):
    alerting.report(str(uuid.uuid4()), asset=("recorded", "measurement_features"))
    alerting.tick()
    assert [alert.closed_at is None for alert in alerting.table] == [False]


def test_a_failed_run_is_sent_once_with_its_partition_the_error_and_a_link(alerting, webhook):
    failed = alerting.run("p2", error=DiskFullError("no space left for p2"))
    for later_s in (0, 30, 90):
        alerting.tick(later_s)
    (message,) = webhook.messages
    assert message["title"].endswith("failed for p2")
    assert "no space left for p2" in message["message"].splitlines()[0]
    assert f"{UI}/runs/{failed.run_id}" in message["message"]
    assert alerting.table[0].kind == "failed_run"


def test_only_the_last_failure_of_a_retried_run_is_sent(alerting, webhook):
    job = dg.Definitions(assets=rows_and_check({})).resolve_implicit_global_asset_job_def()
    first = alerting.instance.create_run_for_job(job)
    alerting.instance.report_run_failed(first, "the process ended")
    assert alerting.instance.get_run_by_id(first.run_id).tags["dagster/will_retry"] == "true"
    alerting.tick()
    assert webhook.messages == []
    again = alerting.instance.create_run_for_job(
        job,
        tags={"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id},
        parent_run_id=first.run_id,
        root_run_id=first.run_id,
    )
    alerting.instance.report_run_failed(again, "the process ended again")
    alerting.tick()
    (message,) = webhook.messages
    assert "the process ended again" in message["message"]


def test_a_failure_of_which_dagster_has_yet_to_say_whether_it_retries_waits(alerting, dagster_settings, webhook):
    run_id = alerting.run(error=DiskFullError("full")).run_id
    execute(dagster_settings, "DELETE FROM run_tags WHERE key = 'dagster/will_retry' AND run_id = %s", run_id)
    undo = "UPDATE runs SET run_body = replace(run_body, 'dagster/will_retry', %s) WHERE run_id = %s"
    execute(dagster_settings, undo, "dagster/nothing", run_id)
    before = alerting.cursor
    alerting.tick(later_s=5)
    assert (webhook.messages, alerting.cursor) == ([], before)
    alerting.tick(later_s=100)  # it never will
    assert len(webhook.messages) == 1


@pytest.mark.fault("500 checks fail at once")
def test_five_hundred_failed_checks_are_five_hundred_rows_and_one_message(alerting, webhook, fault):
    alerting.report_many(500)
    alerting.tick()
    alerting.tick(100)
    assert webhook.titles == ["Heimdall: 500 failed checks"]
    assert len(alerting.table) == 500
    fault.record(
        detected_by="the sensor's next tick",
        result=f"{len(alerting.table)} rows in alerts, {len(webhook.messages)} message",
    )


@pytest.mark.slow
@pytest.mark.fault("the webhook is down for an hour")
def test_a_webhook_that_is_down_for_an_hour_loses_nothing(alerting, webhook, fault):
    webhook.down()
    for number in range(30):
        if number % 10 == 0:
            alerting.report(f"p{number}")
        outcome = alerting.tick(120 * number)
        assert "destination 1 (json): " in str(outcome)
    webhook.up()
    alerting.tick(3600)
    alerting.tick(3630)
    assert len(webhook.messages) == len(alerting.table) == 3
    fault.record(
        detected_by="30 ticks of the sensor, each with the reason",
        result=f"{len(alerting.table)} failed checks, {len(alerting.table)} rows in alerts, "
        f"{len(webhook.messages)} messages after it is up again",
    )


def test_the_cursor_passes_only_events_that_no_other_can_come_before(alerting):
    alerting.report()
    before = alerting.cursor
    assert len(alerting.tick(30).changes) == 1
    assert alerting.cursor == before
    alerting.tick(90)
    assert Cursor.parse(alerting.cursor).evaluations > Cursor.parse(before).evaluations


def test_an_event_whose_id_comes_late_is_sent(alerting, dagster_settings, webhook):
    (late_id,) = execute(dagster_settings, "SELECT nextval('event_logs_id_seq')")
    alerting.report("p1")
    alerting.tick(20)
    alerting.report("late")  # its id was handed out before that of p1, and committed after it
    newest = "UPDATE event_logs SET id = %s WHERE id = (SELECT max(id) FROM event_logs)"
    execute(dagster_settings, newest, late_id)
    alerting.tick(50)
    assert [alert.partition for alert in alerting.table] == ["p1", "late"]
    assert len(webhook.messages) == 2


@pytest.mark.fault("the sensor's cursor is lost or damaged")
def test_a_lost_cursor_reads_everything_again_and_changes_nothing(alerting, webhook, fault):
    for passed in (False, True, False):
        alerting.report(passed=passed)
    alerting.cursor = None
    alerting.tick()
    messages, table = list(webhook.messages), alerting.table
    for lost in (None, "", "no cursor", '{"evaluations": "x"}', "[1, 2]", "17"):
        alerting.cursor = lost
        assert alerting.tick(30).changes == ()
    assert (webhook.messages, alerting.table) == (messages, table)
    fault.record(detected_by="nothing to detect", result="all events are read again; no additional row or message")


def test_many_events_are_recorded_in_pages_and_sent_at_the_end(alerting, webhook, monkeypatch):
    monkeypatch.setattr(alerts, "EVENTS_PER_PAGE", 2)
    monkeypatch.setattr(alerts, "PAGES_PER_CALL", dict.fromkeys(KINDS.values(), 3))
    for number in range(10):
        alerting.report(f"p{number}")
    alerting.report("p0", passed=True)
    first = alerting.tick(later_s=1000)
    assert (len(first.changes), first.deliveries, webhook.messages) == (6, None, [])
    alerting.tick(later_s=1030)
    assert webhook.titles == ["Heimdall: 9 failed checks, 1 recovered check"]


def test_a_tick_that_raises_loses_nothing(alerting, webhook, settings):
    alerting.report()
    before = alerting.cursor
    with open_stores(settings.model_copy(update={"pg_port": 1})) as away:
        working, alerting.stores = alerting.stores, away
        with pytest.raises(DatabaseUnavailableError):
            alerting.tick()
    alerting.stores = working
    assert alerting.cursor == before
    alerting.tick()
    assert len(webhook.messages) == 1


@pytest.mark.fault("a process ends after sending an alert, before recording it as sent")
def test_a_crash_between_sending_and_marking_sends_again(alerting, webhook, monkeypatch, fault):
    def crash(*arguments):
        raise KeyboardInterrupt

    alerting.report()
    with monkeypatch.context() as patched:
        patched.setattr(delivery, "mark_sent", crash)
        with pytest.raises(KeyboardInterrupt):
            alerting.tick()
    alerting.tick()
    alerting.tick()
    assert len(webhook.messages) == 2
    assert len(alerting.table) == 1
    fault.record(
        detected_by="nothing to detect",
        result=f"sent again: {len(webhook.messages)} messages, {len(alerting.table)} row in alerts",
    )


def test_a_failure_that_is_noted_only_after_the_deletion_is_closed_and_not_sent(alerting, webhook, caplog):
    of_dataset = ("synthetic", "dataset_summary")
    add(alerting.stores, "night", 1)
    alerting.report("night", asset=of_dataset)
    alerting.tick()
    assert len(webhook.messages) == 1
    alerting.report("day", asset=of_dataset)  # validated, then deleted, before the sensor looked
    delete_dataset(alerting.stores, "night")
    for later_s in (0, 100):
        alerting.tick(later_s)
    assert len(webhook.messages) == 1, "neither that one failed nor that one passes again"
    assert [(alert.partition, alert.closed_at is None) for alert in alerting.table] == [
        ("night", False),
        ("day", False),
    ]
    add(alerting.stores, "night", 1)
    alerting.report("night", asset=of_dataset)
    alerting.tick()
    assert len(webhook.messages) == 2, "another dataset of this name is another incident"


def test_alerts_of_every_check_that_there_is_are_closed_after_a_deletion(stores):
    keys = build_definitions().resolve_asset_graph().asset_check_keys
    checks = [key for key in keys if key.asset_key.path != ["websdr_stations"]]  # has no partitions
    assert len(checks) > 15
    gone = "00000000-0000-0000-0000-000000000001"  # may name a session or a dataset
    note_evaluations(
        stores.database,
        LOG,
        [
            evaluation(no, asset=key.asset_key.to_user_string(), check=key.name, partition=partition)
            for no, key in enumerate(checks)
            for partition in (gone, f"{gone}__00001")
        ],
    )
    close_alerts_of_deleted(stores.database)
    assert list_alerts(stores.database, 100, only_open=True) == []


def test_the_sensor_keeps_its_cursor_says_what_it_did_and_shows_no_secret(alerting, webhook, capfd, monkeypatch):
    monkeypatch.setattr(alerts, "SETTLED_AFTER_S", 3600.0)
    alerting.report()
    shown = []
    for status in (500, 200):
        webhook.status = status
        context = dg.build_sensor_context(instance=alerting.instance, cursor=alerting.cursor)
        result = failed_asset_check_alerts(context, stores=alerting.stores, settings=alerting.settings)
        assert Cursor.parse(result.cursor) == Cursor.parse(alerting.start)  # the event is young
        shown.append(result.skip_reason.skip_message)
    assert shown[0].startswith("1 raised; destination 1 (json): ")
    assert shown[1] == "nothing new; sent 1 to 1 (json)"
    output = "".join((*shown, *capfd.readouterr(), repr(alerting.settings)))
    assert TOKEN not in output
    assert PASSWORD not in output


def test_without_urls_the_table_and_the_log_have_it(alerting, webhook, capfd):
    alerting.settings = alerting.settings.model_copy(update={"alert_urls": None})
    alerting.run()
    outcome = alerting.tick()
    assert "HEIMDALL_ALERT_URLS is not set: see the table heimdall.alerts and the log" in str(outcome)
    assert len(alerting.table) == 1
    assert "ERROR: check rows_agree of rows failed" in capfd.readouterr().err
    assert webhook.messages == []


def test_the_sensor_of_the_project_runs_with_its_own_resources(alerting, environment):
    sensor = build_definitions().get_repository_def().get_sensor_def("failed_asset_check_alerts")
    assert (sensor.default_status, sensor.minimum_interval_seconds) == (dg.DefaultSensorStatus.RUNNING, 30)
    alerting.report(str(uuid.uuid4()))
    resources = build_definitions().resources
    with dg.build_sensor_context(instance=alerting.instance, cursor=alerting.cursor, resources=resources) as context:
        result = failed_asset_check_alerts(context)
    assert result.skip_reason.skip_message.startswith("1 raised; HEIMDALL_ALERT_URLS is not set")
    assert len(alerting.table) == 1


def test_on_dagsters_sqlite_storage_it_says_what_it_needs(stores, settings):
    with dg.instance_for_test(set_dagster_home=False) as sqlite:
        result = failed_asset_check_alerts(dg.build_sensor_context(instance=sqlite), stores=stores, settings=settings)
    assert "Alerts need its PostgreSQL storage" in result.skip_message


def execute(settings, statement, *values):
    connection = psycopg2.connect(
        host=settings.pg_host,
        port=settings.pg_port,
        user=settings.pg_user,
        password=settings.pg_password.get_secret_value(),
        dbname=settings.pg_database,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        found = cursor.fetchone() if cursor.description else None
    connection.close()
    return found
