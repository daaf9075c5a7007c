"""All that session files hold, table by table."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sessionactor._codec import UndecodableError
from sessionactor._digest import digest

TABLES = ("session", "messages", "keys", "removals", "metadata", "turns", "origins")


def tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables of a session that is closed."""
    found: dict[str, list[dict[str, Any]]] = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for table in TABLES:
            found[table] = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
        names = {row["name"] for row in connection.execute("SELECT name FROM sqlite_schema")}
    assert {name for name in names if not name.startswith("sqlite_")} >= set(TABLES)
    for row in found["messages"]:  # sets are encoded in an order of chance
        with suppress(UndecodableError):
            row["data"] = digest("", row["data"])
    (session,) = found["session"]
    if session["state"] == "running":  # nobody runs a copy
        session["state"] = "interrupted"
    del session["token"]
    for newest in found["messages"][-1:]:  # appends write nothing but their rows
        session["high_water"] = max(session["high_water"], newest["id"])
        session["revision"] = max(session["revision"], newest["revision"])
        session["last_at"] = max(session["last_at"], newest["inserted_at"])
    for turn in found["turns"]:
        del turn["interrupted"]
    return found
