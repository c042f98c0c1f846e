"""A session's position as GeoJSON (RFC 7946) and KML (OGC 12-007), for maps."""

import json
import math
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pyproj

from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S, distance_and_azimuth
from heimdall_pipelines.rf.positioning import Ellipse, Receiver
from heimdall_pipelines.sessions.session_position import SessionPosition

_WGS84 = pyproj.Geod(ellps="WGS84")
_ELLIPSE_POINTS = 72
_HYPERBOLA_POINTS = 181

Line = list[tuple[float, float]]  # (longitude, latitude), degrees


def ellipse_outline(latitude: float, longitude: float, ellipse: Ellipse) -> Line:
    """Closed outline of an ellipse, longitudes and latitudes in degrees, counterclockwise."""
    outline = []
    for point in range(_ELLIPSE_POINTS):
        angle = 2 * math.pi * point / _ELLIPSE_POINTS
        along, across = ellipse.semi_major_m * math.cos(angle), ellipse.semi_minor_m * math.sin(angle)
        azimuth_deg = ellipse.azimuth_deg - math.degrees(math.atan2(across, along))
        lon, lat, _ = _WGS84.fwd(longitude, latitude, azimuth_deg, math.hypot(along, across))
        outline.append((lon, lat))
    return [*outline, outline[0]]


def hyperbola(a: Receiver, b: Receiver, tdoa_us: float, reach_m: float) -> list[Line]:
    """Points where the signal arrives ``tdoa_us`` later at b than at a, within ``reach_m`` of a, as lines.

    On each ray from a the distance r with d_b(r) - r = c tdoa is found in closed form on the plane and
    corrected once on the ellipsoid.
    """
    base_m, towards = distance_and_azimuth(a.latitude, a.longitude, b.latitude, b.longitude)
    base, towards_deg = float(base_m), math.degrees(float(towards))
    difference_m = tdoa_us * 1e-6 * SPEED_OF_LIGHT_M_PER_S
    if base == 0 or abs(difference_m) >= base:
        return []
    lines: list[Line] = [[]]
    for point in range(_HYPERBOLA_POINTS):
        angle_deg = -180 + 360 * (point + 0.5) / _HYPERBOLA_POINTS
        divisor = 2 * (difference_m + base * math.cos(math.radians(angle_deg)))
        radius_m = (base**2 - difference_m**2) / divisor if divisor > 0 else math.inf
        if not 0 <= radius_m <= reach_m:
            if lines[-1]:
                lines.append([])
            continue
        for _ in range(3):
            lon, lat, _ = _WGS84.fwd(a.longitude, a.latitude, towards_deg + angle_deg, radius_m)
            to_b_m, _ = distance_and_azimuth(lat, lon, b.latitude, b.longitude)
            # d(d_b - r)/dr lies between -2 and 0; half a step converges.
            radius_m = min(max(radius_m + 0.5 * (float(to_b_m) - radius_m - difference_m), 0.0), reach_m)
        lines[-1].append((lon, lat))
    return [line for line in lines if len(line) > 1]


def geojson(position: SessionPosition) -> str:
    """Stations, position, ellipse and hyperbolas as a GeoJSON feature collection."""
    fix = position.fix
    features = [
        _feature(
            {"type": "Point", "coordinates": [fix.longitude, fix.latitude]},
            kind="position",
            session=position.session.slug,
            semi_major_m=round(fix.ellipse.semi_major_m, 1),
            semi_minor_m=round(fix.ellipse.semi_minor_m, 1),
            azimuth_deg=round(fix.ellipse.azimuth_deg, 1),
            confidence=0.95,
        ),
        _feature(
            {"type": "Polygon", "coordinates": [ellipse_outline(fix.latitude, fix.longitude, fix.ellipse)]},
            kind="ellipse",
            confidence=0.95,
        ),
    ]
    if fix.second is not None:
        features.append(
            _feature({"type": "Point", "coordinates": [fix.second[1], fix.second[0]]}, kind="second_position")
        )
    features += [
        _feature(
            {"type": "Point", "coordinates": [receiver.longitude, receiver.latitude, receiver.altitude_m]},
            kind="station",
            rx_id=receiver.rx_id,
            residual_us=fix.residuals_us.get(receiver.rx_id),
        )
        for receiver in position.receivers
    ]
    source = position.session.known_source
    if source is not None:
        features.append(
            _feature(
                {"type": "Point", "coordinates": [source.longitude, source.latitude]},
                kind="known_source",
                name=source.name,
            )
        )
    features += [
        _feature({"type": "LineString", "coordinates": line}, kind="hyperbola", rx_a=a, rx_b=b, tdoa_us=round(tdoa, 3))
        for a, b, tdoa, line in hyperbolas(position)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1)


def hyperbolas(position: SessionPosition) -> list[tuple[str, str, float, Line]]:
    """Lines of equal time difference of each pair of stations that the position uses."""
    lines = []
    farthest_m = 2 * max(_reach_m(position.receivers, position.fix.latitude, position.fix.longitude), 1e5)
    for difference in position.differences:
        a, b = position.receivers[difference.a], position.receivers[difference.b]
        if difference.tdoa_us is None or not {a.rx_id, b.rx_id} <= set(position.fix.used):
            continue
        lines += [
            (a.rx_id, b.rx_id, difference.tdoa_us, line) for line in hyperbola(a, b, difference.tdoa_us, farthest_m)
        ]
    return lines


def kml(position: SessionPosition) -> str:
    """Stations, position, ellipse and hyperbolas as KML."""
    root = ElementTree.Element("kml", xmlns="http://www.opengis.net/kml/2.2")
    document = ElementTree.SubElement(root, "Document")
    ElementTree.SubElement(document, "name").text = position.session.slug
    fix = position.fix
    _placemark(document, "position", "Point", [(fix.longitude, fix.latitude)])
    polygon = ElementTree.SubElement(_named(document, "ellipse, 95 %"), "Polygon")
    ring = ElementTree.SubElement(ElementTree.SubElement(polygon, "outerBoundaryIs"), "LinearRing")
    _coordinates(ring, ellipse_outline(fix.latitude, fix.longitude, fix.ellipse))
    if fix.second is not None:
        _placemark(document, "second position", "Point", [(fix.second[1], fix.second[0])])
    for receiver in position.receivers:
        _placemark(document, receiver.rx_id, "Point", [(receiver.longitude, receiver.latitude)])
    source = position.session.known_source
    if source is not None:
        _placemark(document, f"known source {source.name}", "Point", [(source.longitude, source.latitude)])
    for a, b, tdoa_us, line in hyperbolas(position):
        _placemark(document, f"{b} later than {a} by {tdoa_us:.1f} us", "LineString", line)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _feature(geometry: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _named(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    placemark = ElementTree.SubElement(parent, "Placemark")
    ElementTree.SubElement(placemark, "name").text = name
    return placemark


def _placemark(parent: ElementTree.Element, name: str, geometry: str, line: Line) -> None:
    _coordinates(ElementTree.SubElement(_named(parent, name), geometry), line)


def _coordinates(parent: ElementTree.Element, line: Line) -> None:
    ElementTree.SubElement(parent, "coordinates").text = " ".join(f"{lon:.7f},{lat:.7f}" for lon, lat in line)


def _reach_m(receivers: Sequence[Receiver], latitude: float, longitude: float) -> float:
    distances_m, _ = distance_and_azimuth(
        latitude, longitude, [x.latitude for x in receivers], [x.longitude for x in receivers]
    )
    return float(distances_m.max())
