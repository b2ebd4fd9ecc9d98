"""Where a model server may be: on this machine or in a private network, unless the user allows others."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from collm_nas.api import UserError

_PRIVATE = [ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """A server's address, without the `/v1` that its paths begin with."""

    host: str
    port: int
    tls: bool
    path: str
    """What stands before `/v1`, as behind a gateway; mostly empty."""

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{self.path}"


def read(text: str) -> Address:
    """The address that `HOST:PORT` or a URL spells; UserError where it spells none, or holds a password."""
    wrong = f"--server {text!r} is no address of a server; give HOST:PORT, as in localhost:8000, or its URL"
    try:
        split = urlsplit(text if "://" in text else f"//{text}", scheme="http")
        host, port = split.hostname, split.port
    except ValueError:
        raise UserError(wrong) from None
    if not host or split.scheme not in _PORTS or split.query or split.fragment or not text.isprintable() or " " in text:
        raise UserError(wrong)
    if "@" in split.netloc:
        raise UserError("--server holds a user's name; give the address alone, and a key in COLLM_NAS_SERVER_KEY")
    path = split.path.rstrip("/").removesuffix("/v1")
    return Address(host, port or _PORTS[split.scheme], split.scheme == "https", path)


def check(address: Address) -> None:
    """UserError unless every address that the host's name leads to is of this machine or a private network."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UserError(f"--server: the name {address.host!r} leads to no address; give HOST:PORT") from None
    for *_, place in found:
        check_place(address, str(place[0]))


def check_place(address: Address, place: str) -> None:
    """UserError where a numeric address is public."""
    if not local(place):
        at = "" if place == address.host else f" at {place}"
        raise UserError(
            f"--server: {address.host}{at} is neither this machine nor in a private network, and what a search knows "
            "would leave it; add --allow-remote if that is meant"
        )


def local(place: str) -> bool:
    """Whether a numeric address is of this machine or a private network."""
    ip = ipaddress.ip_address(place)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_link_local or any(ip in net for net in _PRIVATE)
