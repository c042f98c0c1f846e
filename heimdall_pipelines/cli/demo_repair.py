"""Part of the demonstration: deletes an object, shows the failed check and the alert, and repairs the dataset."""

import logging

import dagster as dg

from heimdall_pipelines.alerts.delivery import destinations
from heimdall_pipelines.cli.alerts import print_alerts
from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.cli.dataset_integrity import print_validation, repair_and_report, validate_and_report
from heimdall_pipelines.datasets.workers import num_workers_wanted
from heimdall_pipelines.defs.alerts import EventLogError, note_and_deliver
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.alerts import list_alerts
from heimdall_pipelines.store.dataset_snapshot import open_snapshot
from heimdall_pipelines.store.stores import Stores

_SAMPLE_IDX = 0  # any whose IQ is kept
_MOST_ALERTS = 2  # of the batch's check and of the dataset's


def lose_and_repair_an_object(stores: Stores, name: str) -> bool:
    """Delete an object of a dataset, show the failed check, repair it; True if all checks pass at the end."""
    with open_snapshot(stores.database, name) as snapshot:
        row = snapshot.iq_of(_SAMPLE_IDX)
    with dagster_instance() as instance:
        if row is not None:  # missing if the dataset has more damage: then only the repair is shown
            key = min(row.paths.values())
            stores.objects.remove_keys(stores.objects.synthetic_iq_bucket, [key])
            output.print(f"deleted for this demonstration: {stores.objects.synthetic_iq_bucket}/{key}")
        print_validation(validate_and_report(stores, instance, name))
        _print_alerts(stores, instance)
        output.print(f"\nThe samples can be regenerated from the seed: heimdall dataset repair {name} --apply")
        validation = repair_and_report(stores, instance, name, num_workers_wanted())
        _print_alerts(stores, instance)
    return validation.health_status == "healthy"


def _print_alerts(stores: Stores, instance: dg.DagsterInstance) -> None:
    """Do once what the sensor failed_asset_check_alerts does every 30 s, and show the table."""
    settings = load_settings()
    try:
        outcome, cursor = None, None
        while outcome is None or str(outcome.cursor) != cursor:
            cursor = None if outcome is None else str(outcome.cursor)
            outcome = note_and_deliver(instance, stores, settings, _log(), cursor)
    except EventLogError as error:
        output.print(f"no alert: {error}")
        return
    output.print("The alerts, which the daemon of `make dev` records and sends:")
    print_alerts(list_alerts(stores.database, _MOST_ALERTS), destinations(settings.alert_urls))


def _log() -> logging.Logger:
    log = logging.getLogger("heimdall.demo")
    log.setLevel(logging.CRITICAL)  # its messages are in the table below
    return log
