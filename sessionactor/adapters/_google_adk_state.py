"""What metadata says of an ADK session: whose it is, and its state, a JSON text a key.

State is merged key by key, as ADK does. What it is the state of, its prefix says: `app:`, `user:`,
`temp:`, or none for that of the conversation.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from google.adk.sessions import State
from pydantic_core import to_jsonable_python

from sessionactor import Batch

CHANNEL: Final = "google-adk"
"""The channel of every session that the adapter makes."""
ABOUT: Final = "adk.session"
"""Metadata: what session it is, as `About` is written."""
INITIAL: Final = "adk.initial"
"""Metadata: the state that the conversation was created with, if any."""
_STATE: Final = "state:"
_STATE_LENGTH: Final = len(_STATE)

_NOTHING: Final = "[0,null]"
_MAX_CHARACTERS: Final = 200
_UNSAFE: Final = re.compile("[%/\0\ud800-\udfff]")

Scope = Literal["app", "user"]
logger = logging.getLogger("sessionactor")


class Delta(NamedTuple):
    """A change of state, by what it is the state of, without prefixes."""

    app: dict[str, Any]
    user: dict[str, Any]
    session: dict[str, Any]

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> Delta:
        """What there is to store of it, as JSON holds it: `temp:` is not."""
        delta = cls({}, {}, {})
        for key, value in _as_json(dict(state or {})).items():
            if key.startswith(State.APP_PREFIX):
                delta.app[key.removeprefix(State.APP_PREFIX)] = value
            elif key.startswith(State.USER_PREFIX):
                delta.user[key.removeprefix(State.USER_PREFIX)] = value
            elif not key.startswith(State.TEMP_PREFIX):
                delta.session[key] = value
        return delta

    @property
    def due(self) -> dict[Scope, dict[str, Any]]:
        """What other sessions have to take."""
        due: dict[Scope, dict[str, Any]] = {}
        if self.app:
            due["app"] = self.app
        if self.user:
            due["user"] = self.user
        return due


def escaped(text: str) -> str:
    """A text as ids, keys and context can hold it, one to one."""
    return _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), text) or "%"


def session_id_of(*names: str) -> str:
    """The id of the session of an app, of an app and a user, or of those and an ADK session."""
    joined = "/".join(map(escaped, names))
    if len(joined) <= _MAX_CHARACTERS:
        return joined
    mark = "~" + sha256(joined.encode()).hexdigest()[:40]
    return joined[: _MAX_CHARACTERS - len(mark)] + mark


class About(NamedTuple):
    """What session it is: of an app, of an app and a user, or of those and an ADK session."""

    names: tuple[str, ...]
    updated: float
    """The time of the newest event, seconds since the epoch."""
    newest: str | None = None
    """The key of the newest event."""

    @classmethod
    def read(cls, metadata: Mapping[str, str | None]) -> About:
        """What metadata says."""
        updated, newest, *names = json.loads(metadata.get(ABOUT) or _NOTHING)
        return cls(tuple(names), updated, newest)

    def text(self) -> str:
        """As metadata."""
        return json_text([self.updated, self.newest, *self.names])


def as_metadata(state: Mapping[str, Any]) -> dict[str, str]:
    """A state as metadata."""
    return {_STATE + json.dumps(key)[1:-1]: json_text(value) for key, value in state.items()}


def as_state(metadata: Mapping[str, str | None]) -> dict[str, Any]:
    """The state that metadata holds."""
    state: dict[str, Any] = json.loads(_state_text(metadata))
    return state


def read_many(
    many: Iterable[Mapping[str, str | None]],
) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """What metadata says of thousands of sessions, each time, key and names; and their states."""
    abouts = [metadata.get(ABOUT) or _NOTHING for metadata in many]
    states = [_state_text(metadata) for metadata in many]
    return json.loads(f"[{','.join(abouts)}]"), json.loads(f"[{','.join(states)}]")


def _state_text(metadata: Mapping[str, str | None]) -> str:
    if len(metadata) == 1:
        return "{}"  # of many there is only what they are
    members = [
        f'"{key[_STATE_LENGTH:]}":{value}'
        for key, value in metadata.items()
        if key.startswith(_STATE) and value is not None
    ]
    return f"{{{','.join(members)}}}"


def beginning(delta: Delta) -> dict[str, str]:
    """The metadata of a new conversation."""
    made = as_metadata(delta.session)
    if made:
        made[INITIAL] = json_text(delta.session)
    return made


def is_state(key: str) -> bool:
    """Whether a key of metadata is one of the state."""
    return key.startswith(_STATE)


def json_text(value: Any) -> str:
    """A value as JSON, which SQLite can hold as text."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def describe(batch: Batch, about: About) -> None:
    """Say what session it is: to us, to listings and to people."""
    padded = [escaped(name) for name in about.names] + [None, None]
    batch.save_metadata({ABOUT: about.text()})
    batch.set_agent_alias(padded[0])
    batch.set_context(channel_id=CHANNEL, sender_id=padded[1], room_id=padded[2])


def _as_json(state: dict[str, Any]) -> dict[str, Any]:
    """As ADK's own stores do: what JSON cannot hold becomes the text that represents it."""
    try:
        made: dict[str, Any] = to_jsonable_python(state)
    except Exception:
        logger.warning("some of the state is not JSON; its representation is stored", exc_info=True)
        made = to_jsonable_python(state, serialize_unknown=True)
    return made


__all__ = [
    "ABOUT",
    "INITIAL",
    "About",
    "Delta",
    "Scope",
    "as_metadata",
    "as_state",
    "beginning",
    "describe",
    "escaped",
    "is_state",
    "json_text",
    "read_many",
    "session_id_of",
]
