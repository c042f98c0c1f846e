"""Licences that an export can have, and the text of its file LICENSE."""

from pathlib import Path

from heimdall_pipelines.errors import HeimdallError

DEFAULT_LICENCE = "CC-BY-4.0"
LICENCES = {  # SPDX identifier: name, address of the text, identifier on Hugging Face
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/legalcode",
        "cc-by-4.0",
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
        "cc-by-sa-4.0",
    ),
    "CC0-1.0": (
        "Creative Commons Zero 1.0 Universal",
        "https://creativecommons.org/publicdomain/zero/1.0/legalcode",
        "cc0-1.0",
    ),
    "Apache-2.0": ("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0", "apache-2.0"),
    "MIT": ("MIT License", "https://opensource.org/license/mit", "mit"),
}
_MAX_BYTES = 100_000


class UnknownLicenceError(HeimdallError):
    """A licence is neither a known identifier nor a text file."""


def licence_of(choice: str) -> str:
    """What a release stores for a choice: the identifier, or the text of the file that it names.

    Raises
    ------
    UnknownLicenceError
    """
    if choice in LICENCES:
        return choice
    path = Path(choice)
    try:
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UnknownLicenceError(f"{choice}: the licence cannot be read: {error}") from error
    raise UnknownLicenceError(
        f"licence {choice}: one of {', '.join(LICENCES)} is expected, or a text file of at most {_MAX_BYTES} bytes"
    )


def licence_text(licence: str) -> str:
    """Content of the file LICENSE."""
    if licence not in LICENCES:
        return licence
    name, address, _ = LICENCES[licence]
    return f"This dataset is licensed under the {name} ({licence}).\nThe full text of the licence: {address}\n"


def licence_url(licence: str) -> str:
    """Address of a licence for metadata; the name of the file LICENSE where it has none."""
    return LICENCES[licence][1] if licence in LICENCES else "LICENSE"


def licence_on_hub(licence: str) -> str:
    """Identifier in the front matter of a data card."""
    return LICENCES[licence][2] if licence in LICENCES else "other"
