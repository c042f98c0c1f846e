import pytest

from heimdall_pipelines.alerts import delivery
from heimdall_pipelines.store.database import Database
from heimdall_pipelines_tests.alerts.support import TIMEOUT_S, Webhook


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr(delivery, "SEND_TIMEOUT_S", TIMEOUT_S)


@pytest.fixture
def database(settings):
    with Database(settings) as opened:
        yield opened


@pytest.fixture
def webhook():
    made = Webhook().up()
    yield made
    made.down()


@pytest.fixture
def second_webhook():
    made = Webhook().up()
    yield made
    made.down()
