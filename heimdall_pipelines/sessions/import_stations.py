"""Which station recorded each file of an import, and where it stands."""

from collections.abc import Sequence

from heimdall_pipelines.formats.iq_recording import IqRecording
from heimdall_pipelines.model.slugs import slug
from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.sessions.import_request import ImportFile, ImportRefusedError
from heimdall_pipelines.stations.network import Network
from heimdall_pipelines.store.stations import MAX_NAME_CHARACTERS, Station, list_stations
from heimdall_pipelines.store.stores import Stores

MAX_POSITION_DIFFERENCE_M = 1_000.0
_SAME_POSITION_M = 1.0


def resolve_stations(
    stores: Stores, network: Network, files: Sequence[ImportFile], recordings: Sequence[IqRecording]
) -> list[Station]:
    """Return the station of each file: one that exists, or a new, inactive one.

    Raises
    ------
    ImportRefusedError
        A file does not name its station or its position, names one twice, or states a position that is not the
        station's.
    """
    existing = {station.rx_id: station for station in list_stations(stores.database)}
    resolved = [
        _resolve_station(existing, network, file, recording) for file, recording in zip(files, recordings, strict=True)
    ]
    rx_ids = [station.rx_id for station in resolved]
    for file, rx_id in zip(files, rx_ids, strict=True):
        if rx_ids.count(rx_id) > 1:
            raise ImportRefusedError(f"{file.path}: station {rx_id} is given twice; name it with --station FILE=rx_id")
    return resolved


def _resolve_station(
    existing: dict[str, Station], network: Network, file: ImportFile, recording: IqRecording
) -> Station:
    rx_id = file.rx_id or slug(recording.receiver_name or "")
    if not rx_id:
        raise ImportRefusedError(
            f"{file.path}: the file does not name its station (a model of receiver or the number of a connection is "
            f"none); give --station {file.path.name}=rx_id"
        )
    if rx_id in existing:
        _check_position(existing[rx_id], file, recording)
        return existing[rx_id]
    listed = network.position_of(rx_id)
    position = file.position or recording.position or listed
    if position is None:
        raise ImportRefusedError(
            f"{file.path}: unknown station {rx_id}; give --position {file.path.name}=latitude,longitude,altitude_m "
            f"or add it with: heimdall station add {rx_id} --latitude … --longitude …"
        )
    if recording.position is not None and _distance_m(position, recording.position) > MAX_POSITION_DIFFERENCE_M:
        raise ImportRefusedError(
            f"{file.path}: the file was recorded at {_text(recording.position)}, but --position is {_text(position)}, "
            f"{_distance_m(position, recording.position) / 1e3:.1f} km away; correct one of them"
        )
    latitude, longitude, altitude_m = position
    name = recording.receiver_name or rx_id
    station = Station(rx_id, name[:MAX_NAME_CHARACTERS], latitude, longitude, altitude_m, is_active=False)
    station.check_as_new()
    return station


def _check_position(station: Station, file: ImportFile, recording: IqRecording) -> None:
    """Refuse a recording that was made elsewhere than at its station."""
    own = (station.latitude, station.longitude, station.altitude_m)
    change = (
        f"name another station with --station {file.path.name}=rx_id, or correct the station's position, which is that "
        "of all its sessions, in SQL: columns latitude, longitude and altitude_m of heimdall.websdr_stations"
    )
    if file.position is not None and _distance_m(file.position, own) > _SAME_POSITION_M:
        raise ImportRefusedError(
            f"{file.path}: station {station.rx_id} has a position already, {_text(own)}, not {_text(file.position)}; "
            f"leave out --position, or {change}"
        )
    if recording.position is None:
        return
    distance = _distance_m(recording.position, own)
    if distance > MAX_POSITION_DIFFERENCE_M:
        raise ImportRefusedError(
            f"{file.path}: the file was recorded at {_text(recording.position)}, {distance / 1e3:.1f} km from station "
            f"{station.rx_id} at {_text(own)}; {change}"
        )


def _distance_m(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return float(distance_m(a[0], a[1], b[0], b[1]))


def _text(position: tuple[float, float, float]) -> str:
    return f"{position[0]:.5f}, {position[1]:.5f}"
