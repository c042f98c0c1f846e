"""Writes GeoTIFF files byte by byte: what GDAL reads is not what GDAL wrote."""

import struct

import numpy as np

GEOGRAPHIC, PROJECTED = 2, 1  # GTModelTypeGeoKey
AREA, POINT = 1, 2  # GTRasterTypeGeoKey
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_SIZE = {_SHORT: 2, _LONG: 4, _DOUBLE: 8, _ASCII: 1}
_CODE = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}


def tiff_bytes(
    values, *, tie=None, scale=None, epsg=4326, model=GEOGRAPHIC, raster=AREA, nodata=None, order="<", bands=1
):
    """A TIFF of one strip without compression; ``tie`` is the position of the first pixel, none if None."""
    values = np.asarray(values)
    sample_format = {"i": 2, "u": 1, "f": 3}[values.dtype.kind]
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bands > 1:
        pixels = np.repeat(values[..., None], bands, -1).astype(values.dtype.newbyteorder(order)).tobytes()
    rows, columns = values.shape
    tags = {
        256: (_LONG, [columns]),
        257: (_LONG, [rows]),
        258: (_SHORT, [8 * values.dtype.itemsize] * bands),
        259: (_SHORT, [1]),
        262: (_SHORT, [1]),
        273: (_LONG, [8]),
        277: (_SHORT, [bands]),
        278: (_LONG, [rows]),
        279: (_LONG, [len(pixels)]),
        339: (_SHORT, [sample_format] * bands),
    }
    if tie is not None:
        east, north = tie
        tags[33550] = (_DOUBLE, [*scale, 0.0])
        tags[33922] = (_DOUBLE, [0.0, 0.0, 0.0, east, north, 0.0])
        key = 2048 if model == GEOGRAPHIC else 3072
        tags[34735] = (_SHORT, [1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, raster, key, 0, 1, epsg])
    if nodata is not None:
        tags[42113] = (_ASCII, f"{nodata}\0".encode())
    return _assembled(tags, pixels, order)


def _assembled(tags, pixels, order):
    directory_at = 8 + len(pixels) + len(pixels) % 2
    beyond_at = directory_at + 2 + 12 * len(tags) + 4
    entries, beyond = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        data = values if kind == _ASCII else struct.pack(f"{order}{len(values)}{_CODE[kind]}", *values)
        entries += struct.pack(f"{order}HHI", tag, kind, len(data) // _SIZE[kind])
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", beyond_at + len(beyond))
            beyond += data + b"\0" * (len(data) % 2)
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, directory_at)
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return header + pixels + b"\0" * (len(pixels) % 2) + directory + beyond
