"""JSON to and from one model server: no proxy, no redirect, a time limit, and a few tries where it is not at hand."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from collm_nas.api import UserError
from inference.engines import _address
from inference.engines._address import Address

KEY = "COLLM_NAS_SERVER_KEY"
"""The environment variable that holds a key, where the server wants one."""

WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try."""

_CONNECT = 10.0  # seconds to connect in
_LONGEST = 64 << 20  # bytes of an answer
_LATER = (408, 429)  # besides 5xx: statuses of a server that may answer later


class Refused(UserError):
    """The server understood a request and won't answer it."""

    def __init__(self, name: str, status: int, said: str) -> None:
        super().__init__(
            f"the server {name} refuses a request ({status}: {said}); start it so that it takes that, or change the "
            "option that asks for it"
        )
        self.status, self.said = status, said


class Client:
    """Talks with one server."""

    def __init__(
        self, address: Address, *, allow_remote: bool = False, timeout_s: float = 600.0, waits: Sequence[float] = WAITS
    ) -> None:
        """`timeout_s`: for so long the server may be silent. UserError where it is remote and that is not allowed, or
        the key is none."""
        if not allow_remote:
            _address.check(address)
        self.name = address.name
        self._address, self._allow_remote = address, allow_remote
        self._timeout_s, self._waits = timeout_s, waits
        self._key = os.environ.get(KEY, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UserError(f"the environment variable {KEY} holds no key: it has characters that no header may have")

    def get(self, path: str) -> Any:
        """The JSON at `path`, which begins with `/v1`."""
        return self._ask("GET", path, None, self._waits)

    def post(self, path: str, body: Mapping[str, Any], *, patient: bool = True) -> Any:
        """The JSON that answers this one; not `patient`: one try. `Refused` where the server won't answer (not
        `patient`: or fails)."""
        return self._ask("POST", path, json.dumps(body).encode(), self._waits if patient else ())

    def _ask(self, method: str, path: str, body: bytes | None, waits: Sequence[float]) -> Any:
        problem, refused = "", None
        for wait in (0.0, *waits):
            time.sleep(wait)
            try:
                status, where, data = self._once(method, path, body)
            except TimeoutError:
                raise UserError(
                    f"the server {self.name} was silent for {self._timeout_s:g} s; give it more time "
                    f"(--server-timeout) or less to do, {_AGAIN}"
                ) from None
            except (OSError, http.client.HTTPException) as error:
                problem = f"can't be reached ({getattr(error, 'strerror', None) or str(error) or type(error).__name__})"
                refused = None
                continue
            if status < 500 and status not in _LATER:
                return self._read(status, where, data)
            refused = Refused(self.name, status, self._said(data))
            problem = f"fails ({status}: {refused.said})"
        if refused and not waits:
            raise refused
        raise UserError(f"the server {self.name} {problem}; start it, or see its log, {_AGAIN}")

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        """One try on a connection of its own: status, where it sends on to, body."""
        address = self._address
        kind = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
        connection = kind(address.host, address.port, timeout=_CONNECT)
        try:
            try:
                connection.connect()
            except TimeoutError:
                raise ConnectionError(f"no connection in {_CONNECT:g} s") from None
            if not self._allow_remote:  # the name may lead elsewhere by now
                _address.check_place(address, connection.sock.getpeername()[0])
            connection.sock.settimeout(self._timeout_s)
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            connection.request(method, address.path + path, body, headers)
            answer = connection.getresponse()
            data = answer.read(_LONGEST)
            if answer.length:  # it broke off
                raise http.client.IncompleteRead(data, answer.length)
            return answer.status, answer.getheader("Location", "elsewhere"), data
        except ssl.SSLCertVerificationError as error:
            raise UserError(
                f"the server {self.name} has no certificate that holds here ({error.verify_message}); mend that, or "
                "use http"
            ) from None
        finally:
            connection.close()

    def _read(self, status: int, where: str, data: bytes) -> Any:
        """The JSON of an answer that is one."""
        if 300 <= status < 400:
            raise UserError(f"the server {self.name} sends on to {where:.200}, which is not followed; give its address")
        if status in (401, 403):
            raise UserError(f"the server {self.name} wants a key; put the right one in the variable {KEY}, {_AGAIN}")
        if status >= 400:
            raise Refused(self.name, status, self._said(data))
        try:
            return json.loads(data)
        except ValueError:
            raise UserError(
                f"the server {self.name} answers with what is no JSON; is it a server of OpenAI's kind, such as "
                "`vllm serve` or `llama-server`?"
            ) from None

    def _said(self, data: bytes) -> str:
        """The server's own words, on one line, without the key."""
        text = data.decode(errors="replace")
        try:
            error = json.loads(text)
            error = error.get("error", error)
            text = str(error.get("message", text)) if isinstance(error, dict) else str(error)
        except (ValueError, AttributeError):
            pass
        text = " ".join(text.split())
        return (text.replace(self._key, "***") if self._key else text)[:300] or "without a word"


_AGAIN = "then give the same command again (with --resume where its run had begun: no answer is lost)"
