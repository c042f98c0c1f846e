"""The clients of receivers by kind."""

from collections.abc import Callable, Mapping

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.model.receiver_kind import ReceiverKind, kinds_text
from heimdall_pipelines.receivers.kiwisdr import KiwiSdr
from heimdall_pipelines.receivers.openwebrx import OpenWebRx
from heimdall_pipelines.receivers.stream import Receiver, WaitLimits

CLIENTS: Mapping[str, Callable[[WaitLimits], Receiver]] = {
    ReceiverKind.KIWISDR: KiwiSdr,
    ReceiverKind.OPENWEBRX: OpenWebRx,
}


class UnknownApiTypeError(HeimdallError):
    """There is no client for this kind of receiver."""


def receiver_of(api_type: str, limits: WaitLimits | None = None) -> Receiver:
    """Make the client of a kind of receiver.

    Parameters
    ----------
    api_type : str
        A `ReceiverKind` that has a client.
    limits : WaitLimits, optional
        Timeouts of the client.

    Raises
    ------
    UnknownApiTypeError
        For ``none`` and unknown kinds.
    """
    client = CLIENTS.get(api_type)
    if client is None:
        raise UnknownApiTypeError(f"no client for receivers of api_type {api_type!r}: {kinds_text()} is needed")
    return client(limits or WaitLimits())
