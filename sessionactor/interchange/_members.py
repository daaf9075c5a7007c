"""The members of a JSON object, taken one by one and checked."""

from __future__ import annotations

from typing import Any, Final

from sessionactor._requests import MAX_ID
from sessionactor._times import EARLIEST, LATEST
from sessionactor.interchange._from_json import BadLineError
from sessionactor.interchange._moments import nanoseconds_of

_MISSING: Final = object()


class Members:
    """What an object holds and nobody took yet."""

    def __init__(self, value: Any) -> None:
        if type(value) is not dict:
            raise BadLineError(f"an object is expected, not a {_name(value)}")
        self._left = value

    def value(self, name: str) -> Any:
        """Any value."""
        value = self._left.pop(name, _MISSING)
        if value is _MISSING:
            raise BadLineError(f"there is no {name!r}")
        return value

    def text(self, name: str) -> str:
        """A text that a session can hold."""
        value = self.value(name)
        if type(value) is not str:
            raise BadLineError(f"{name!r} is a {_name(value)}, not a string")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise BadLineError(f"{name!r} contains a lone surrogate") from None
        if "\0" in value:
            raise BadLineError(f"{name!r} contains NUL")
        return value

    def object(self, name: str) -> dict[str, Any]:
        """An object."""
        value = self.value(name)
        if type(value) is not dict:
            raise BadLineError(f"{name!r} is a {_name(value)}, not an object")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, if it is there and not null."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        return self.text(name)

    def integer(self, name: str, least: int = 0, most: int = MAX_ID) -> int:
        """An integer."""
        value = self.value(name)
        if type(value) is not int:
            raise BadLineError(f"{name!r} is a {_name(value)}, not an integer")
        if not least <= value <= most:
            raise BadLineError(f"{name!r} is not between {least} and {most}")
        return value

    def optional_integer(self, name: str, least: int = 0, most: int = MAX_ID) -> int | None:
        """An integer, if it is there."""
        return self.integer(name, least, most) if name in self._left else None

    def flag(self, name: str) -> bool:
        """A bool; `False` if it is not there."""
        value = self._left.pop(name, False)
        if type(value) is not bool:
            raise BadLineError(f"{name!r} is a {_name(value)}, not true or false")
        return value

    def moment(self, name: str) -> int:
        """A time that a session can have, as microseconds."""
        value = self.time(name)
        if not EARLIEST <= value <= LATEST:
            raise BadLineError(f"{name!r} is beyond the years 1 to 9999")
        return value

    def optional_moment(self, name: str) -> int | None:
        """A time that a session can have, if it is there."""
        return self.moment(name) if name in self._left else None

    def time(self, name: str) -> int:
        """A time, as microseconds; a row of a file can have any."""
        if type(self._left.get(name)) is int:  # one beyond the years 1 to 9999
            return self.integer(name, -MAX_ID)
        text = self.text(name)
        nanoseconds = nanoseconds_of(text)
        if nanoseconds is None:
            raise BadLineError(f"{name!r} is no time as RFC 3339 has them: {text[:40]!r}")
        if nanoseconds % 1000:
            raise BadLineError(f"{name!r} is more exact than microseconds: {text!r}")
        return nanoseconds // 1000

    def optional_time(self, name: str) -> int | None:
        """A time, if it is there."""
        return self.time(name) if name in self._left else None

    def rest(self) -> dict[str, Any]:
        """What nobody took."""
        return self._left

    def end(self) -> None:
        """Refuse members that nobody took: they would be lost."""
        if self._left:
            raise BadLineError(f"there is an unknown {next(iter(self._left))!r}")


def _name(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "bool", type(None): "null"}
    return names.get(type(value), "number")


__all__ = ["Members"]
