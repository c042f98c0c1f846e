"""The door to the clients: which class serves which kind of receiver."""

from collections.abc import Callable, Mapping

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.receivers.http_iq import HttpIq
from heimdall_pipelines.receivers.kiwisdr import KiwiSdr
from heimdall_pipelines.receivers.stream import Receiver, WaitLimits

# A further kind is one class and a line here (and its name in the database's check of api_type).
CLIENTS: Mapping[str, Callable[[WaitLimits], Receiver]] = {"kiwisdr": KiwiSdr, "http_iq": HttpIq}


class UnknownApiTypeError(HeimdallError):
    """There is no client for this kind of receiver."""


def receiver_of(api_type: str, limits: WaitLimits | None = None) -> Receiver:
    """Make the client of a kind of receiver.

    Parameters
    ----------
    api_type : str
        ``kiwisdr`` or ``http_iq``.
    limits : WaitLimits, optional
        How long it waits for a receiver.

    Raises
    ------
    UnknownApiTypeError
        For ``none`` and any other.
    """
    client = CLIENTS.get(api_type)
    if client is None:
        known = ", ".join(CLIENTS)
        raise UnknownApiTypeError(f"no client for receivers of api_type {api_type!r}: one of {known} is needed")
    return client(limits or WaitLimits())
