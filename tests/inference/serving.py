"""A small server of OpenAI's kind on loopback, whose answers a real engine writes; it can fail as servers do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llguidance.gbnf_to_lark import any_to_lark

from collm_nas.api import Completion, Constraint, Engine, Request

ROLES = ("navigator", "generator")


@dataclass(kw_only=True)
class Serving:
    """What it serves and how it fails; tests change it as it runs."""

    engine: Engine
    dialect: str | None = "structured_outputs"
    """The field in which it takes a constraint; it ignores all others, as real servers do."""
    models: tuple[str, ...] = ("base", *ROLES)
    rows: int = 100
    """Most answers at once; it refuses a request for more."""
    longest: int = 60
    """Tokens after which it cuts every answer."""
    context: int = 10**6
    """Characters of a prompt, beyond which it refuses a request."""
    seeds: bool = True
    key: str = ""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Statuses and bodies of the next answers; a status of 0 hangs up, 1 promises more than comes."""
    quiet_s: float = 0.0
    """Seconds before each answer."""
    illegal: str = ""
    """The text of the next answers to requests of a search, whatever is asked for."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and body of each request."""
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a request brings."""
        chat = path.endswith("/chat/completions")
        turns = [(one["role"], one["content"]) for one in body["messages"]] if chat else [("user", body["prompt"])]
        n = body.get("n", 1)
        if n > self.rows:
            raise ValueError(f"n must be at most {self.rows}")
        if sum(len(text) for _, text in turns) > self.context:
            raise ValueError("the request exceeds the available context size")
        request = Request(
            role="navigator" if body["model"] == "navigator" else "generator",
            prompt=turns[-1][1][-300:],  # what a tiny model has room for
            n=n,
            seed=body.get("seed", 0) if self.seeds else len(self.asked),
            temperature=body.get("temperature", 1.0),
            max_tokens=min(body["max_tokens"], self.longest),
            constraint=self._constraint(body),
            top_p=body.get("top_p", 1.0),
        )
        with self.lock:
            answers = self.engine.generate(request)
        told = [self._choice(i, one, chat, body) for i, one in enumerate(answers)]
        usage = {key: sum(getattr(one, name) for one in answers) for key, name in USAGE}
        return {"choices": told[::-1], "usage": usage}

    def _choice(self, i: int, answer: Completion, chat: bool, body: Mapping[str, Any]) -> dict[str, Any]:
        text = self.illegal if self.illegal and body["temperature"] != 2.0 else answer.text
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        logprobs = {"content": [{"logprob": answer.logp}]} if body.get("logprobs") else None
        return {"index": i, "finish_reason": "stop" if answer.finished else "length", "logprobs": logprobs, **said}

    def _constraint(self, body: Mapping[str, Any]) -> Constraint | None:
        told = body.get(self.dialect or "")
        if told is None:
            return None
        if self.dialect == "grammar":
            return Constraint("lark", any_to_lark(told))
        if self.dialect == "response_format":
            return Constraint("json", json.dumps(told["json_schema"]["schema"]))
        return Constraint("regex", told["regex"] if self.dialect == "structured_outputs" else told)


USAGE = (("prompt_tokens", "prompt_tokens"), ("completion_tokens", "tokens"))


@contextmanager
def serve(serving: Serving, port: int = 0) -> Iterator[Serving]:
    """The server while it runs, at `serving.address`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(lambda: {"object": "list", "data": [{"id": name} for name in serving.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            serving.asked.append((self.path, body))
            self._send(lambda: serving.answer(self.path, body))

        def _send(self, answer: Any) -> None:
            threading.Event().wait(serving.quiet_s)
            status, data = serving.failures.pop(0) if serving.failures else (200, "")
            if status == 0:
                return self.connection.close()
            if serving.key and self.headers["Authorization"] != f"Bearer {serving.key}":
                status, data = 401, f"wrong key {self.headers['Authorization']}"
            if status == 200 and not data:
                try:
                    data = json.dumps(answer())
                except ValueError as error:
                    status, data = 400, json.dumps({"error": {"message": str(error)}})
            self.send_response(200 if status == 1 else status)
            self.send_header("Location", f"{'http'}://{serving.address}/elsewhere")
            self.send_header("Content-Length", str(len(data.encode()) + 10 * (status == 1)))
            self.end_headers()
            self.wfile.write(data.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    serving.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield serving
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
