"""The models that a server has, and which of them plays which role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from collm_nas.api import Role, UserError
from inference.engines._http import Client, Refused

_ROLES: tuple[Role, ...] = get_args(Role)


class Served(NamedTuple):
    """A model that a server has."""

    name: str
    room: int | None
    """Tokens of its context, where the server says."""


def served(client: Client) -> list[Served]:
    """The server's models; UserError where it has none, or is of another kind."""
    try:
        told = client.get("/v1/models")["data"]
        models = [Served(str(one["id"]), one.get("max_model_len")) for one in told]
    except (Refused, KeyError, TypeError, AttributeError):
        raise UserError(
            f"the server {client.name} has no list of models at /v1/models; is it a server of OpenAI's kind, such as "
            "`vllm serve` or `llama-server`?"
        ) from None
    if not models:
        raise UserError(f"the server {client.name} serves no model; start it with one")
    return models


def roles(models: Sequence[Served], named: str | None) -> dict[Role, Served]:
    """The model of each role: the one that is named, else the one called like the role, else the only one.

    UserError where there is none such.
    """
    known = {model.name: model for model in models}
    given = _named(named)
    found = {}
    for role in _ROLES:
        name = given.get(role) or (role if role in known else models[0].name if len(models) == 1 else None)
        if name not in known:
            wanted = f"no model {name!r}" if name else f"several models, none of them called {role}"
            raise UserError(
                f"--server-model: the server has {wanted}; it has {', '.join(known)}: name one of these, or "
                "navigator=NAME,generator=NAME"
            )
        found[role] = known[name]
    return found


def _named(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    if not text.startswith(tuple(f"{role}=" for role in _ROLES)):
        return dict.fromkeys(_ROLES, text)
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    if not all(role in _ROLES and name for role, name in pairs.items()):
        raise UserError(f"--server-model {text!r} must be a name, or navigator=NAME,generator=NAME")
    return pairs
