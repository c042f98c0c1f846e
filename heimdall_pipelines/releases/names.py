"""Names of releases: ``NAME@VERSION``."""

import re
from dataclasses import dataclass

from heimdall_pipelines.errors import HeimdallError

_NAME = re.compile(r"(?P<name>[^@]+)(@(?P<version>[1-9][0-9]{0,8}))?")


class ReleaseNameError(HeimdallError):
    """A name is not NAME or NAME@VERSION."""


@dataclass(frozen=True)
class ReleaseName:
    """Name of a dataset, and of a release of it; ``version`` is None for the dataset as it stands."""

    name: str
    version: int | None


def parse_release_name(text: str) -> ReleaseName:
    """Read ``NAME`` or ``NAME@VERSION``.

    >>> parse_release_name("night@2")
    ReleaseName(name='night', version=2)
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ReleaseNameError(f"{text!r} is not a release: NAME@VERSION is expected, such as night@1")
    version = found["version"]
    return ReleaseName(found["name"], None if version is None else int(version))
