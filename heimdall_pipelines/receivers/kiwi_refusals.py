"""What a KiwiSDR says when it refuses a client or ends its stream, and whether a later attempt may help."""

from collections.abc import Mapping
from urllib.parse import unquote

from heimdall_pipelines.receivers.addresses import shown, shown_url
from heimdall_pipelines.receivers.stream import RETRY_AFTER_S, ReceiverError, ReceiverStatus, StreamLimitError

_LIFTED = "the time-limit password, if you have it, stands in its URL as http://TIME-LIMIT-PASSWORD:PASSWORD@host"
_PASSWORD_REFUSALS = {
    "2": ("is still determining its own address", True),
    "3": ("does not allow this network address", False),
    "4": ("has no password set and admits only its own network", False),
    "5": ("allows only one connection per address, and there is one already", True),
    "6": ("is updating its database", True),
}
_DOWN = {"1": "is updating its software", "2": "is making a backup"}


def refusal(
    rx_id: str, said: Mapping[str, str | None], reported: Mapping[str, str | None], *, has_password: bool
) -> ReceiverError | None:
    """Make the error for a message that refuses the client or ends its stream.

    Parameters
    ----------
    rx_id : str
        Named in the error.
    said : mapping of str to str or None
        The message.
    reported : mapping of str to str or None
        What the receiver said before; after a login it includes ``badp``.
    has_password : bool
        Whether a password was sent.

    Returns
    -------
    ReceiverError or None
        None for other messages.
    """
    if "wb_only" in said:
        return _permanent(rx_id, "runs the wideband firmware, whose only channel is not one for this client")
    if "exclusive_use" in said:
        return _transient(rx_id, "is locked for the exclusive use of one user (a DRM decoder)")
    if "too_busy" in said:
        return _too_busy(rx_id, said["too_busy"] or "", is_logged_in=reported.get("badp") == "0")
    if "redirect" in said:
        where = shown_url(unquote(said["redirect"] or ""))
        return _transient(rx_id, f"is busy and names another receiver, {where}, which is not this station")
    if "down" in said:
        return _down(rx_id, said)
    if "ip_limit" in said:
        minutes = shown(unquote(said["ip_limit"] or "").partition(",")[0]) or "?"
        reason = f"allows {minutes} minutes a day for each network address, and they are used up: {_LIFTED}"
        return StreamLimitError(rx_id, reason, is_transient=False)
    if "inactivity_timeout" in said:
        minutes = shown(said["inactivity_timeout"] or "?")
        reason = f"ends streams that are not tuned for {minutes} minutes: {_LIFTED}"
        return StreamLimitError(rx_id, reason, is_transient=True, retry_after_s=RETRY_AFTER_S)
    if "password_timeout" in said:
        return _permanent(rx_id, "closed the connection: it received no password in time")
    badp = said.get("badp")
    return None if badp in (None, "0") else _wrong_password(rx_id, badp or "", {**reported, **said}, has_password)


def refusal_of_status(rx_id: str, status: ReceiverStatus, *, has_password: bool) -> ReceiverError | None:
    """Make the error for a status page by which a stream would be refused; None where it may be requested."""
    if not status.is_up:
        return _transient(rx_id, status.reason or "reports that it is down")
    if status.max_programs == 0:
        return _no_programs(rx_id)
    if has_password:
        return None  # the page counts the channels without one
    if status.needs_password:
        return _permanent(rx_id, "requires a password: give it in its URL, http://:password@host")
    if status.num_users is not None and status.max_users is not None and status.num_users >= status.max_users > 0:
        return _transient(rx_id, all_taken(status.max_users))
    return None


def all_taken(num_channels: int | str) -> str:
    """Word that all channels are taken."""
    return f"is busy: all {num_channels} channels are taken"


def _too_busy(rx_id: str, value: str, *, is_logged_in: bool) -> ReceiverError:
    if value == "0":
        return _no_programs(rx_id)
    # Once a client is logged in, the number is that of the channels for programs, and the client counts as one.
    if is_logged_in:
        reason = f"is busy: its owner gives {shown(value)} channels to programs, and they are taken"
        return StreamLimitError(rx_id, reason, is_transient=True, retry_after_s=RETRY_AFTER_S)
    return _transient(rx_id, all_taken(shown(value)))


def _no_programs(rx_id: str) -> ReceiverError:
    return _permanent(rx_id, "admits no programs: ask its owner (setting: number of channels for non-Kiwi apps)")


def _down(rx_id: str, said: Mapping[str, str | None]) -> ReceiverError:
    doing = _DOWN.get(said["down"] or "")
    why = shown(" ".join(unquote(said.get("reason_disabled") or "").split()))
    return _transient(rx_id, doing or f"reports that it is down{': ' + why if why else ''}")


def _wrong_password(rx_id: str, badp: str, said: Mapping[str, str | None], has_password: bool) -> ReceiverError:
    if badp == "1" and has_password:
        return _permanent(rx_id, "refuses the password: give the right one in its URL, http://:password@host")
    if badp == "1" and said.get("chan_no_pwd_true", said.get("chan_no_pwd")) == "0":
        return _permanent(rx_id, "requires a password: give it in its URL, http://:password@host")
    if badp == "1":
        return _transient(rx_id, "asks for a password: the channels that need none are taken")
    unknown = (f"refuses the connection (badp={shown(badp)})", False)
    reason, is_transient = _PASSWORD_REFUSALS.get(badp, unknown)
    return _transient(rx_id, reason) if is_transient else _permanent(rx_id, reason)


def _transient(rx_id: str, reason: str) -> ReceiverError:
    return ReceiverError(rx_id, reason, is_transient=True, retry_after_s=RETRY_AFTER_S)


def _permanent(rx_id: str, reason: str) -> ReceiverError:
    return ReceiverError(rx_id, reason, is_transient=False)
