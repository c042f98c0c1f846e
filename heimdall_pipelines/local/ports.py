"""Chooses free TCP ports on loopback."""

import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 0.5


def is_free(port: int) -> bool:
    """Whether no process listens on the port and it can be bound on loopback."""
    with socket.socket() as client:
        client.settimeout(CONNECT_TIMEOUT_S)
        if client.connect_ex((LOOPBACK, port)) == 0:
            return False  # macOS would allow to bind beside a listener on all addresses
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: closed connections linger
        try:
            server.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def reserve(port: int, reservations: ExitStack) -> bool:
    """Reserve a port for a server, until ``reservations`` is closed or this process ends.

    Otherwise another process could choose the port before the server listens on it. The reservation binds the unused
    UDP port of the same number, which every process that calls this checks.

    Returns
    -------
    bool
        False if it is in use or reserved.
    """
    reservation = reservations.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        reservation.bind((LOOPBACK, port))
    except OSError:
        return False
    return is_free(port)


def free_port(wanted: int | None, choices: range, is_available: Callable[[int], bool] = is_free) -> int:
    """Choose an available port, if possible the wanted one.

    Parameters
    ----------
    wanted
        The port of the previous start, None at the first.
    choices
        Range to choose from. Ports below 32768 are not used for outgoing connections
        (Linux from 32768, macOS from 49152), so a port kept across restarts stays free.
    is_available
        Whether a port is available.
    """
    if wanted is not None and is_available(wanted):
        return wanted
    while not is_available(port := choices.start + secrets.randbelow(len(choices))):
        pass
    return port
