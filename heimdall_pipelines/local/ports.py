"""Choosing TCP ports on loopback that nobody else uses."""

import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 0.5


def is_free(port: int) -> bool:
    """Tell whether nobody listens on the port and it can be bound on loopback."""
    with socket.socket() as client:
        client.settimeout(CONNECT_TIMEOUT_S)
        if client.connect_ex((LOOPBACK, port)) == 0:
            return False  # macOS would let us bind beside a listener on every address
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: closed connections linger
        try:
            server.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def claim(port: int, claims: ExitStack) -> bool:
    """Claim a port for a server that will listen on it, until ``claims`` is closed or this process ends.

    Between the choice of a port and its server's start others would choose it too. The claim is the UDP port of the
    same number, which nobody needs and which every process that asks here can see.

    Returns
    -------
    bool
        False where somebody listens on it or claims it.
    """
    sign = claims.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        sign.bind((LOOPBACK, port))
    except OSError:
        return False
    return is_free(port)


def free_port(wanted: int | None, within: range, fits: Callable[[int], bool] = is_free) -> int:
    """Choose a port that fits, the wanted one if it can be had.

    Parameters
    ----------
    wanted
        The port of the last start, None at the first.
    within
        Where to choose from. Below 32768 the system hands none out to outgoing connections
        (Linux from 32768, macOS from 49152), so a port kept across restarts stays free.
    fits
        Tells whether a port can be had.
    """
    if wanted is not None and fits(wanted):
        return wanted
    while not fits(port := within.start + secrets.randbelow(len(within))):
        pass
    return port
