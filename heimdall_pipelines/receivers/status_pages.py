"""Status pages of receivers: their request, and what a KiwiSDR's says: lines of ``key=value``, or one JSON object."""

import json
import time
from collections.abc import Mapping

from heimdall_pipelines.receivers.addresses import shown
from heimdall_pipelines.receivers.redirects import connected_with_redirects
from heimdall_pipelines.receivers.requests import limited, named_errors, read_at_most
from heimdall_pipelines.receivers.stream import ReceiverAddress, ReceiverStatus, WaitLimits

_MAX_PAGE_BYTES = 65_536


async def request_page(
    address: ReceiverAddress, limits: WaitLimits, name: str, headers: Mapping[str, str] | None = None
) -> tuple[bytes, float]:
    """Request a page below the receiver's URL; gives its content and its latency, s.

    Parameters
    ----------
    address : ReceiverAddress
    limits : WaitLimits
    name : str
        Last part of the path.
    headers : mapping, optional
        Sent with the request.

    Raises
    ------
    ReceiverError
        As `heimdall_pipelines.receivers.redirects.connected_with_redirects`, or the page did not come in time.
    """
    began = time.monotonic()
    async with connected_with_redirects(
        address, limits.connect_s, lambda url, session: session.get(url.page(name), headers=headers)
    ) as (response, _):
        latency_s = time.monotonic() - began
        async with limited(address, limits.silence_s, "sent no status page"):
            with named_errors(address):
                return await read_at_most(response, _MAX_PAGE_BYTES), latency_s


def status_of_page(page: str, latency_s: float | None = None) -> ReceiverStatus:
    """Parse a status page; an invalid number counts as missing."""
    values = _values(page)
    offline = values.get("offline") == "yes" or values.get("status") == "offline"
    age_s = _count(values, "gnss_fix_age_s")
    return ReceiverStatus(
        is_up=not offline,
        latency_s=latency_s,
        gnss_fix_age_s=None if age_s is None else float(age_s),
        num_users=_count(values, "users"),
        max_users=_count(values, "users_max"),
        software=shown(values["sw_version"]) if values.get("sw_version") else None,
        reason="reports that it is offline" if offline else None,
        max_programs=_count(values, "ext_api"),
        has_time_stamps=values["tdoa_ch"] != "-1" if "tdoa_ch" in values else None,
        needs_password=values.get("auth") == "password",
    )


def is_status_page(status: ReceiverStatus) -> bool:
    """Whether the page was a status page."""
    return any(value is not None for value in (status.num_users, status.max_users, status.software, status.reason))


def _count(values: dict[str, str], key: str) -> int | None:
    text = values.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def _values(page: str) -> dict[str, str]:
    try:
        content = json.loads(page)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        return {str(key): str(value) for key, value in content.items()}
    return dict(line.strip().split("=", 1) for line in page.splitlines() if "=" in line)
