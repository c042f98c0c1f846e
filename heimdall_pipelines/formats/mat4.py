"""MATLAB files of version 4: their variables. Format: "MAT-File Format", The MathWorks, chapter 2."""

from math import prod
from pathlib import Path

import numpy as np

from heimdall_pipelines.formats.mat5 import Element, Mat5Variable, Part
from heimdall_pipelines.formats.samples import RecordingFormatError, file_size, open_file

_STORED = ("f8", "f4", "i4", "i2", "u2", "u1")
_MAX_NAME_BYTES = 4096


def read_mat4(path: Path) -> list[Mat5Variable] | None:
    """Find the variables of a file; their values are not read. None if it is no such file.

    Raises
    ------
    RecordingFormatError
        The file is damaged after its first variable.
    """
    variables: list[Mat5Variable] = []
    with open_file(path) as file:
        size = file_size(file)
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(20)
            order = ">" if header[:2] == b"\0\0" and header[:4] != bytes(4) else "<"
            numbers = [int(number) for number in np.frombuffer(header, f"{order}i4")] if len(header) == 20 else []
            machine, rest = divmod(numbers[0], 1000) if numbers else (-1, 0)
            stored_as, kind = rest // 10, rest % 10
            is_known = machine == (order == ">") and 0 <= stored_as < len(_STORED) and 0 <= kind <= 2
            if not is_known or min(numbers[1:3]) < 0 or not 1 <= numbers[4] <= _MAX_NAME_BYTES:
                if not variables:
                    return None
                raise RecordingFormatError(path, "ends within a variable, or is damaged", position)
            shape = (numbers[1], numbers[2])
            name = file.read(numbers[4]).rstrip(b"\0").decode("latin-1")
            stored: np.dtype[np.generic] = np.dtype(f"{order}{_STORED[stored_as]}")
            begin, part_bytes = position + 20 + numbers[4], prod(shape) * stored.itemsize
            num_parts = 2 if numbers[3] else 1
            element = Element(begin, num_parts * part_bytes, is_compressed=False)
            position = begin + element.num_bytes
            if position > size:
                if not variables:
                    return None
                raise RecordingFormatError(path, f"ends within the variable {name[:60]}", size)
            if kind or not prod(shape):
                variables.append(Mat5Variable(name, shape, None, element))
            else:
                parts = tuple(Part(number * part_bytes, stored) for number in range(num_parts))
                variables.append(Mat5Variable(name, shape, stored.newbyteorder("="), element, parts))
    return variables
