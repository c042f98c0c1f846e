import pytest

from heimdall_pipelines.store.database import Database
from heimdall_pipelines_tests.alerts.support import Webhook


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
