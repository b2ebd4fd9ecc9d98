"""How the engine on a server talks: only to places it may, again where that helps, and in one sentence where not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from collm_nas.api import UserError
from inference.engines import _address
from inference.engines._http import Client, Refused
from tests.inference.serving import Serving, serve


@pytest.fixture
def serving(engine: Any) -> Iterator[Serving]:
    with serve(Serving(engine=engine)) as one:
        yield one


def client(serving: Serving, **given: Any) -> Client:
    return Client(_address.read(serving.address), **{"waits": (0.0, 0.0), **given})


@pytest.mark.parametrize(
    "text, expected",
    [
        ("localhost:8000", ("localhost", 8000, False, "")),
        ("http" + "://10.0.0.1/v1/", ("10.0.0.1", 80, False, "")),
        ("https" + "://example.com/gate/v1", ("example.com", 443, True, "/gate")),
        ("[::1]:9", ("::1", 9, False, "")),
    ],
)
def test_an_address_is_host_and_port_or_a_url(text: str, expected: tuple[Any, ...]) -> None:
    assert tuple(_address.read(text)) == expected


@pytest.mark.parametrize(
    "text", ["", ":8000", "a b:1", "host:port", "host:99999", "ftp" + "://host", "host/?q=1", "a\nb:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UserError, match="is no address of a server; give HOST:PORT"):
        _address.read(text)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="COLLM_NAS_SERVER_KEY") as caught:
        _address.read("me:secret@localhost:8000")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "place, at_home",
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("169.254.1.1", True),
        ("fe80::1%lo", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("100.64.0.1", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:10.0.0.1", True),
        ("2001:db8::1", False),
        ("2002:0a00:0001::", False),
    ],
)
def test_what_is_private(place: str, at_home: bool) -> None:
    assert _address.local(place) == at_home


def test_every_address_of_a_name_must_be_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in ("10.0.0.1", "8.8.8.8")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with pytest.raises(UserError, match=r"somewhere at 8\.8\.8\.8 is neither .* --allow-remote"):
        Client(_address.read("somewhere:80"))
    Client(_address.read("somewhere:80"), allow_remote=True)


def test_a_name_that_leads_elsewhere_later_is_told_nothing(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at the start is not enough: a name may be pointed at another place between two requests."""
    one = client(serving)
    one.get("/v1/models")
    monkeypatch.setattr(_address, "local", lambda place: False)
    with pytest.raises(UserError, match="--allow-remote"):
        one.post("/v1/completions", {"prompt": "a secret"})
    assert not serving.asked


def test_no_proxy_is_taken_from_the_environment(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "127.0.0.1:1")
    assert client(serving).get("/v1/models")["data"]


@pytest.mark.parametrize("failure", [(503, "loading"), (429, "busy"), (0, ""), (1, "torn")])
def test_it_asks_again_where_that_may_help(serving: Serving, failure: tuple[int, str]) -> None:
    serving.failures = [failure] * 2
    assert client(serving).get("/v1/models")["data"]


@pytest.mark.parametrize(
    "failure, said",
    [
        ((500, '{"error": {"message": "no memory\\nleft"}}'), "fails (500: no memory left); start it, or see its log"),
        ((0, ""), "can't be reached ("),
        ((302, ""), "/elsewhere, which is not followed"),
        ((401, ""), "wants a key; put the right one in the variable COLLM_NAS_SERVER_KEY"),
        ((200, "<html>"), "no JSON; is it a server of OpenAI's kind"),
    ],
)
def test_what_stays_wrong_is_one_sentence(serving: Serving, failure: tuple[int, str], said: str) -> None:
    serving.failures = [failure] * 3
    with pytest.raises(UserError) as caught:
        client(serving).get("/v1/models")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not isinstance(caught.value, Refused)


def test_nobody_there() -> None:
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} can't be reached .*refused.*; start it"):
            Client(_address.read(f"127.0.0.1:{port}"), waits=(0.0,)).get("/v1/models")


def test_silence_has_an_end(serving: Serving) -> None:
    serving.quiet_s = 0.5
    with pytest.raises(UserError, match=r"was silent for 0\.1 s; give it more time \(--server-timeout\)"):
        client(serving, timeout_s=0.1).get("/v1/models")


def test_what_a_server_refuses_is_refused_once(serving: Serving) -> None:
    serving.failures = [(422, '{"detail": "no"}'), (200, "{}")]
    with pytest.raises(Refused, match=r"422: .*no"):
        client(serving).post("/v1/completions", {})
    assert len(serving.asked) == 1


def test_a_key_goes_into_the_header_and_no_message(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    serving.key = "open"
    with pytest.raises(UserError, match="wants a key"):
        client(serving).get("/v1/models")
    monkeypatch.setenv("COLLM_NAS_SERVER_KEY", "open")
    assert client(serving).get("/v1/models")["data"]
    serving.failures = [(500, "I know Bearer open")] * 3
    with pytest.raises(UserError, match=r"Bearer \*\*\*"):
        client(serving).get("/v1/models")
    monkeypatch.setenv("COLLM_NAS_SERVER_KEY", "op\nen")
    with pytest.raises(UserError, match="COLLM_NAS_SERVER_KEY holds no key"):
        client(serving)
