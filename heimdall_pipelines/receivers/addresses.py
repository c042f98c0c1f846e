"""A receiver's URL: parsing, and display without its password."""

import re
from base64 import b64encode
from dataclasses import dataclass, field

from yarl import URL

from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverError

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_SHOWN_CHARACTERS = 120
_USER_INFO = re.compile(r"//[^/?#]*@")


@dataclass(frozen=True)
class ReceiverUrl:
    """A parsed receiver address.

    Attributes
    ----------
    base : URL
        http or https, without user, password, query and fragment.
    user, password : str or None
        As in the URL, percent-decoded.
    """

    base: URL
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)

    def page(self, *names: str) -> URL:
        """Address of a path below the receiver's URL."""
        return self.base.joinpath(*names)

    def websocket(self, *names: str) -> URL:
        """The same as ws or wss."""
        return self.page(*names).with_scheme({"http": "ws", "https": "wss"}[self.base.scheme])

    def authorization(self) -> dict[str, str]:
        """Headers of HTTP's basic authentication, empty without user and password."""
        if self.user is None and self.password is None:
            return {}
        return {"Authorization": "Basic " + b64encode(f"{self.user or ''}:{self.password or ''}".encode()).decode()}


def receiver_url(address: ReceiverAddress) -> ReceiverUrl:
    """Parse a receiver's address.

    Raises
    ------
    ReceiverError
        It is not a URL, its scheme is not http, https, ws or wss, or a host is missing; not transient. The message
        shows no password.
    """

    def refused(why: str) -> ReceiverError:
        return ReceiverError(address.rx_id, f"the URL {shown_url(address.url)!r} {why}", is_transient=False)

    try:
        url = URL(address.url)
        scheme, host, port = url.scheme, url.host, url.port
    except ValueError:
        raise refused("cannot be read") from None
    if scheme not in SCHEMES:
        raise refused("is not http, https, ws or wss")
    if not host or port == 0:
        raise refused("has no host or port")
    base = url.with_user(None).with_query(None).with_fragment(None).with_scheme(SCHEMES[scheme])
    return ReceiverUrl(base, url.user, url.password)


def shown_url(url: str) -> str:
    """Write a URL for people: without user and password, control characters or excessive length.

    >>> shown_url("http://:secret@host:8073/x")
    'http://host:8073/x'
    """
    return shown(_USER_INFO.sub("//", url))


def shown(text: str) -> str:
    """Shorten and clean text from a remote host for an error message."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: _SHOWN_CHARACTERS + 1])
    return clean if len(clean) <= _SHOWN_CHARACTERS else clean[:_SHOWN_CHARACTERS] + "…"
