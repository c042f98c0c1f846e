"""Addresses that a station must not lead to: the local link, where clouds keep their metadata and credentials.

A user who may add a station could otherwise let this machine read them. The check is made on the address that a
connection is opened to, after the name was resolved, so that neither spelling nor a changing DNS answer passes it.
"""

import errno
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
# Metadata services outside the local link: AWS (IPv6), Azure, Alibaba Cloud, Oracle Cloud, Google Cloud (IPv6).
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd20:ce::254"),
    )
)
# Prefixes of IPv6 that hold an IPv4 address in their last 32 bits: IPv4-compatible, mapped (RFC 4291), translated
# (RFC 2765), NAT64 (RFC 6052) and its local prefix (RFC 8215).
_ENDING_IN_IPV4 = tuple(
    map(ipaddress.ip_network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214: upper half of the interface identifier; the lower one is IPv4
_MASK_32 = 0xFFFF_FFFF


class ForbiddenAddressError(PermissionError):
    """A connection to an address that stations must not have; nothing was sent."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "it leads to the local link or a metadata service")


def is_forbidden(address: str) -> bool:
    """Whether an address is of the local link or a metadata service, also where IPv6 wraps it.

    Parameters
    ----------
    address : str
        A numeric address, as ``getaddrinfo`` gives it; a zone (``%eth0``) is ignored.

    Examples
    --------
    >>> is_forbidden("169.254.169.254"), is_forbidden("64:ff9b::a9fe:a9fe"), is_forbidden("192.168.1.7")
    (True, True, False)
    """
    given = ipaddress.ip_address(address.partition("%")[0])
    return any(
        one in _METADATA or any(one.version == network.version and one in network for network in _LINK_LOCAL)
        for one in (given, *_wrapped(given))
    )


def allowed_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """Make the socket of a connection, unless its address is forbidden; aiohttp's ``socket_factory``.

    Raises
    ------
    ForbiddenAddressError
        The address is of the local link or a metadata service.
    """
    family, address = address_info[0], address_info[4]
    if family in (socket.AF_INET, socket.AF_INET6) and is_forbidden(str(address[0])):
        raise ForbiddenAddressError
    return any_socket(address_info)


def any_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """Make the socket of a connection to any address."""
    family, kind, protocol, _, _ = address_info
    return socket.socket(family=family, type=kind, proto=protocol)


def _wrapped(address: IpAddress) -> Iterator[ipaddress.IPv4Address]:
    """IPv4 addresses that routers may take out of an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    number = int(address)
    if any(address in network for network in _ENDING_IN_IPV4) or (number >> 32) & _MASK_32 in _ISATAP:
        yield ipaddress.IPv4Address(number & _MASK_32)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
