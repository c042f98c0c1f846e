"""One self-contained HTML file: sections with tables, pictures, charts and a map that can be moved. No network."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

Points = Sequence[tuple[float, float]]

_COLOURS = ("#1f5fa8", "#c03028", "#2a7f3f", "#b36b00", "#7a3f9d", "#008b8b", "#5b5b5b", "#c2185b", "#6b8e23")
_WIDTH, _HEIGHT = 860.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 8.0, 30.0
_MAX_POINTS = 1500  # of a line; more cannot be seen
_MAP_WIDTH = 860.0

_CSS = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f3f5f8; --text: #1c2530; --back: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3c4654; --soft: #1d242d; --text: #e4e8ee; --back: #12171d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 960px; padding: 1.5rem 1rem 4rem; font: 15px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--back); }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem;
  border-bottom: 1px solid var(--line); padding-bottom: .2rem; } h3 { font-size: 1rem; margin: 1rem 0 .2rem; }
nav a { margin-right: 1rem; } p.lead { margin: 0 0 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .3rem 0; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { background: var(--soft); } td.n { text-align: right; font-variant-numeric: tabular-nums; }
img, svg { max-width: 100%; height: auto; display: block; background: #fff; border: 1px solid var(--line); }
svg text { font: 11px system-ui, sans-serif; fill: #333; } .map { cursor: grab; touch-action: none; }
.map text { paint-order: stroke; stroke: #fff; stroke-width: 3px; font-size: 12px; }
.keys { font-size: .85rem; margin: .3rem 0; } .keys label, .keys span { margin-right: 1rem; white-space: nowrap; }
.keys i { display: inline-block; width: 1.1em; height: .25em; margin-right: .35em; vertical-align: middle; }
.note { color: #667; font-size: .88rem; } .warn { border-left: 4px solid #c03028; padding-left: .7rem; }
"""

_SCRIPT = """
for (const svg of document.querySelectorAll("svg.map")) {
  const whole = svg.viewBox.baseVal, home = [whole.x, whole.y, whole.width, whole.height];
  let view = home.slice(), drag = null;
  const show = () => {
    svg.setAttribute("viewBox", view.join(" "));
    const scale = view[2] / home[2];
    for (const mark of svg.querySelectorAll("[data-at]"))
      mark.setAttribute("transform", `translate(${mark.dataset.at}) scale(${scale})`);
  };
  const at = event => {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  svg.addEventListener("wheel", event => {
    event.preventDefault();
    const [x, y] = at(event), factor = Math.exp(event.deltaY / 400);
    const width = Math.min(Math.max(view[2] * factor, home[2] / 500), home[2]), by = width / view[2];
    view = [view[0] + x * view[2] * (1 - by), view[1] + y * view[3] * (1 - by), width, view[3] * by];
    show();
  }, { passive: false });
  svg.addEventListener("pointerdown", event => { drag = at(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointerup", () => { drag = null; });
  svg.addEventListener("pointermove", event => {
    if (!drag) return;
    const [x, y] = at(event);
    view[0] -= (x - drag[0]) * view[2]; view[1] -= (y - drag[1]) * view[3]; drag = [x, y];
    show();
  });
  svg.addEventListener("dblclick", () => { view = home.slice(); show(); });
  for (const box of document.querySelectorAll(`[data-map="${svg.id}"]`))
    box.addEventListener("change", () => {
      svg.querySelector(`g[data-layer="${box.value}"]`).style.display = box.checked ? "" : "none";
    });
}
document.documentElement.dataset.ready = "1";
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: its title and its HTML, of the functions of this module."""

    title: str
    body: str


@dataclass(frozen=True)
class Line:
    """One line of a chart; NaN and None break it."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class MapLayer:
    """Marks of one kind on a map.

    Attributes
    ----------
    name : str
    colour : str
        Of CSS.
    lines : sequence of sequence of (float, float)
        Longitudes and latitudes, degrees; a closed one is an outline.
    places : sequence of (float, float, str)
        Longitude, latitude and name, empty for a dot without one.
    symbol : {"dot", "triangle", "cross", "star"}
    width : float
        Of the lines.
    """

    name: str
    colour: str
    lines: Sequence[Points] = ()
    places: Sequence[tuple[float, float, str]] = ()
    symbol: str = "dot"
    width: float = 1.0


@dataclass(frozen=True)
class MapArea:
    """What a map shows, degrees; ``east`` is greater than ``west``, beyond 180 where the antimeridian lies between."""

    south: float
    west: float
    north: float
    east: float

    @property
    def stretch(self) -> float:
        """Width of a degree of longitude over that of latitude in the middle."""
        return max(math.cos(math.radians((self.south + self.north) / 2)), 0.05)

    @property
    def height(self) -> float:
        """Of the picture, for a width of `_MAP_WIDTH`."""
        return _MAP_WIDTH * (self.north - self.south) / ((self.east - self.west) * self.stretch)


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole file.

    Parameters
    ----------
    title, lead : str
        Text.
    sections : sequence of Section
    """
    links = "".join(f'<a href="#s{number}">{_text(x.title)}</a>' for number, x in enumerate(sections))
    body = "".join(
        f'<section id="s{number}"><h2>{_text(x.title)}</h2>{x.body}</section>' for number, x in enumerate(sections)
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing of the page can be loaded from elsewhere, whatever a file or a receiver said.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<style>{_CSS}</style></head><body><h1>{_text(title)}</h1>"
        f'<p class="lead">{_text(lead)}</p><nav>{links}</nav>{body}<script>{_SCRIPT}</script></body></html>\n'
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is note, warn or nothing."""
    return f'<p class="{kind}">{_text(text)}</p>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers stand at the right."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(title: str, png: bytes) -> str:
    """A PNG inside the page."""
    return f'<img alt="{_text(title)}" src="{data_uri(png)}">'


def data_uri(png: bytes) -> str:
    """A PNG as an address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def chart(title: str, y_label: str, lines: Sequence[Line]) -> str:
    """Lines over time, s, with their names above; a point under the mouse shows its values.

    Parameters
    ----------
    title, y_label : str
    lines : sequence of Line
    """
    known = [point for line in lines for part in _unbroken(zip(line.x, line.y, strict=True)) for point in part]
    if not known:
        return f"<h3>{_text(title)}</h3>" + paragraph("no values", "note")
    (x_low, x_high), (y_low, y_high) = _range(x for x, _ in known), _range(y for _, y in known)
    margin = 0.06 * (y_high - y_low)
    y_low, y_high = y_low - margin, y_high + margin

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    drawn = []
    for y in ticks(y_low, y_high, 4):
        _, row = at(x_low, y)
        drawn.append(f'<path d="M{_LEFT} {row:.1f}H{_WIDTH - _RIGHT}" stroke="#e3e6ea"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{row + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(x_low, x_high, 8):
        column, _ = at(x, y_low)
        drawn.append(f'<text x="{column:.1f}" y="{_HEIGHT - 16}" text-anchor="middle">{x:g}</text>')
    drawn.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">time, s</text>')
    drawn.append(
        f'<text transform="translate(12 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{_text(y_label)}</text>'
    )
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        step = max(1, math.ceil(len(line.x) / _MAX_POINTS))
        shown = list(zip(line.x, line.y, strict=True))[::step]
        parts = _unbroken(shown)
        for part in parts:
            path = "L".join("{:.1f} {:.1f}".format(*at(x, y)) for x, y in part)
            drawn.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        if len(shown) <= 200:
            for x, y in chain.from_iterable(parts):
                column, row = at(x, y)
                drawn.append(
                    f'<circle cx="{column:.1f}" cy="{row:.1f}" r="2.2" fill="{colour}">'
                    f"<title>{_text(line.name)}: {y:.5g} at {x:g}</title></circle>"
                )
    keys = "".join(
        f'<span><i style="background:{_COLOURS[number % len(_COLOURS)]}"></i>{_text(line.name)}</span>'
        for number, line in enumerate(lines)
    )
    return (
        f'<h3>{_text(title)}</h3><div class="keys">{keys}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_text(title)}">{"".join(drawn)}</svg>'
    )


def moving_map(area: MapArea, layers: Sequence[MapLayer], backgrounds: Mapping[str, bytes]) -> str:
    """A map that the mouse moves and the wheel enlarges, with a box for each layer.

    Parameters
    ----------
    area : MapArea
    layers : sequence of MapLayer
        The first lies lowest.
    backgrounds : mapping of str to bytes
        By name, PNGs that cover the area, below all layers; north is up.
    """
    height = area.height

    def at(longitude: float, latitude: float) -> tuple[float, float]:
        east_of = (longitude - area.west + 180) % 360 - 180 if area.east - area.west < 180 else longitude - area.west
        return (
            east_of / (area.east - area.west) * _MAP_WIDTH,
            (area.north - latitude) / (area.north - area.south) * height,
        )

    groups = [
        f'<g data-layer="{_text(name)}"><image href="{data_uri(png)}" x="0" y="0" width="{_MAP_WIDTH}" '
        f'height="{height:.2f}" preserveAspectRatio="none"/></g>'
        for name, png in backgrounds.items()
    ]
    groups.append(_graticule(area))
    for layer in layers:
        marks = []
        for line in layer.lines:
            path = "L".join("{:.2f} {:.2f}".format(*at(lon, lat)) for lon, lat in line)
            marks.append(
                f'<path d="M{path}" fill="none" stroke="{layer.colour}" stroke-width="{layer.width}" '
                'vector-effect="non-scaling-stroke"/>'
            )
        for lon, lat, name in layer.places:
            x, y = at(lon, lat)
            above = -6 if layer.symbol != "star" else 16  # a source is where its position is
            label = f'<text x="8" y="{above}">{_text(name)}</text>' if name else ""
            marks.append(
                f'<g data-at="{x:.2f} {y:.2f}" transform="translate({x:.2f} {y:.2f})">'
                f"{_SYMBOLS[layer.symbol].format(colour=layer.colour)}{label}</g>"
            )
        groups.append(f'<g data-layer="{_text(layer.name)}">{"".join(marks)}</g>')
    shown = [(name, "#999") for name in backgrounds] + [("graticule", "#bbb")]
    shown += [(layer.name, layer.colour) for layer in layers]
    boxes = "".join(
        f'<label><input type="checkbox" checked data-map="map" value="{_text(name)}"> '
        f'<i style="background:{colour}"></i>{_text(name)}</label>'
        for name, colour in shown
    )
    return (
        f'<div class="keys">{boxes}</div><svg id="map" class="map" viewBox="0 0 {_MAP_WIDTH} {height:.2f}" role="img" '
        f'aria-label="map">{"".join(groups)}</svg>'
        + paragraph("Drag to move, turn the wheel to enlarge, double-click for the whole map.", "note")
    )


_SYMBOLS = {
    "dot": '<circle r="2.2" fill="{colour}" fill-opacity="0.7"/>',
    "triangle": '<path d="M0 -7L6 5H-6Z" fill="{colour}" stroke="#fff"/>',
    "cross": '<path d="M-9 0H9M0 -9V9" stroke="{colour}" stroke-width="2.5"/>',
    "star": '<path d="M0 -9L2.6 -2.8 9 -2.8 4 1.4 5.8 8 0 4 -5.8 8 -4 1.4 -9 -2.8 -2.6 -2.8Z" fill="{colour}" '
    'stroke="#fff"/>',
}


def ticks(low: float, high: float, number: int) -> list[float]:
    """Round numbers within a range, about as many as wanted.

    >>> ticks(0.0, 12.0, 4)
    [0.0, 5.0, 10.0]
    """
    step = (high - low) / number
    magnitude = 10 ** math.floor(math.log10(step))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _graticule(area: MapArea) -> str:
    lines = []
    for lat in ticks(area.south, area.north, 5):
        y = (area.north - lat) / (area.north - area.south) * area.height
        lines.append(f'<path d="M0 {y:.1f}H{_MAP_WIDTH}"/><text x="4" y="{y - 3:.1f}">{lat:g}°</text>')
    for lon in ticks(area.west, area.east, 6):
        x = (lon - area.west) / (area.east - area.west) * _MAP_WIDTH
        name = f"{(lon + 180) % 360 - 180:g}°"
        lines.append(
            f'<path d="M{x:.1f} 0V{area.height:.1f}"/><text x="{x + 3:.1f}" y="{area.height - 4:.1f}">{name}</text>'
        )
    return f'<g data-layer="graticule" stroke="#8a93a0" stroke-opacity="0.5" stroke-width="0.5">{"".join(lines)}</g>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.6g}</td>'
    return (
        f'<td class="n">{value}</td>' if isinstance(value, int) else f"<td>{_text('' if value is None else value)}</td>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _range(values: Iterable[float]) -> tuple[float, float]:
    kept = list(values)
    low, high = min(kept), max(kept)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _unbroken(points: Iterable[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is not None and math.isfinite(y):
            parts[-1].append((x, y))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]
