import pytest

from heimdall_pipelines.settings import SettingsError, load_local_settings, load_settings

COMPLETE = {
    "HEIMDALL_PG_HOST": "db.example",
    "HEIMDALL_PG_USER": "heimdall",
    "HEIMDALL_PG_PASSWORD": "correct-horse",
    "HEIMDALL_S3_ENDPOINT": "127.0.0.1:9000",
    "HEIMDALL_S3_ACCESS_KEY": "key",
    "HEIMDALL_S3_SECRET_KEY": "battery-staple",
}


@pytest.fixture
def complete(monkeypatch):
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)


def test_the_environment_is_read_with_types(complete, monkeypatch):
    monkeypatch.setenv("HEIMDALL_PG_PORT", "6543")
    monkeypatch.setenv("HEIMDALL_S3_SECURE", "true")
    settings = load_settings()
    assert (settings.pg_port, settings.s3_secure, settings.pg_database) == (6543, True, "heimdall")


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_variable_is_named(complete, monkeypatch, name):
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        load_settings()


def test_all_missing_variables_are_named_at_once():
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert all(name in str(caught.value) for name in COMPLETE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEIMDALL_PG_PORT", "54x2"),
        ("HEIMDALL_PG_PORT", "0"),
        ("HEIMDALL_PG_POOL_SIZE", "11"),
        ("HEIMDALL_S3_ENDPOINT", "http://127.0.0.1:9000"),
        ("HEIMDALL_S3_SECURE", "perhaps"),
        ("HEIMDALL_UI_URL", "dagster.example"),
    ],
)
def test_a_malformed_variable_is_named_and_its_value_is_not_shown(complete, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{name} is malformed" in str(caught.value)
    assert "correct-horse" not in str(caught.value)


def test_no_secret_is_in_repr_or_str(complete, monkeypatch):
    monkeypatch.setenv("HEIMDALL_ALERT_URLS", "json://127.0.0.1/webhook-token")
    settings = load_settings()
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "correct-horse" not in text
        assert "battery-staple" not in text
        assert "webhook-token" not in text


@pytest.mark.parametrize(("address", "kept"), [("https://ui.example/d/", "https://ui.example/d"), ("", None)])
def test_the_address_of_the_ui_is_kept_without_its_last_slash(complete, monkeypatch, address, kept):
    monkeypatch.setenv("HEIMDALL_UI_URL", address)
    assert load_settings().ui_url == kept


def test_only_the_host_decides_between_deployment_and_embedded_stack(complete, monkeypatch):
    assert load_local_settings().pg_host == "db.example"
    monkeypatch.delenv("HEIMDALL_PG_HOST")
    assert load_local_settings().pg_host is None


def test_runs_in_workers_need_redis_and_its_url_is_never_shown(complete, monkeypatch):
    monkeypatch.setenv("HEIMDALL_RUN_LAUNCHER", "celery")
    with pytest.raises(SettingsError, match="HEIMDALL_REDIS_URL is not set"):
        load_local_settings()
    monkeypatch.setenv("HEIMDALL_REDIS_URL", "http://:redis-pass@host:6379/0")
    with pytest.raises(SettingsError, match="HEIMDALL_REDIS_URL is malformed") as caught:
        load_local_settings()
    assert "redis-pass" not in str(caught.value)
    monkeypatch.setenv("HEIMDALL_REDIS_URL", "rediss://:redis-pass@host:6379/0")
    settings = load_local_settings()
    assert settings.redis_url.get_secret_value() == "rediss://:redis-pass@host:6379/0"
    assert "redis-pass" not in repr(settings) + settings.model_dump_json()
