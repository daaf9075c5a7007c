"""What the Claude Agent SDK starts in the place of `claude`: the same protocol, a scripted model.

It keeps its transcript on its own disk as `claude` does, mirrors each entry to the SDK, and goes
on from the transcript that the SDK hands to it. It looks the weather of a city up, and then says
what to take along.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from claude_agent_sdk import project_key_for_directory


def main(arguments: list[str]) -> None:
    if "-v" in arguments:
        print("99.0.0 (scripted)")
        return
    Claude(arguments).serve()


class Claude:
    """One run of `claude`, on a new transcript or on one that is resumed."""

    def __init__(self, arguments: list[str]) -> None:
        options = dict(one.split("=", 1) for one in arguments if "=" in one)
        self.session_id = options.get("--resume") or options.get("--session-id") or str(uuid4())
        projects = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects")
        found = list(projects.glob(f"*/{self.session_id}.jsonl"))
        project = projects / project_key_for_directory()
        self.path = found[0] if found else project / f"{self.session_id}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.entries: list[dict[str, Any]] = []
        if found:
            lines = [json.loads(line) for line in self.path.read_text().splitlines()]
            self.entries = [line for line in lines if "message" in line]

    def serve(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message["type"] == "control_request":
                answer = {"subtype": "success", "request_id": message["request_id"], "response": {}}
                send({"type": "control_response", "response": answer})
            elif message["type"] == "user":
                self.answer(str(message["message"]["content"]))

    def answer(self, prompt: str) -> None:
        called = self.unfinished()
        if called is None:
            self.keep("user", prompt)
            city = prompt.rsplit(maxsplit=1)[-1].strip("?")
            called = {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": "weather",
                      "input": {"city": city}}  # fmt: skip
            self.say([called])
            if os.environ.get("SLOW_TOOL"):
                sys.stdin.read()  # until whoever asks is gone
                return
        seen = f"It rains in {called['input']['city']}."
        self.keep("user", [{"type": "tool_result", "tool_use_id": called["id"], "content": seen}])
        self.say([{"type": "text", "text": f"{seen} Take an umbrella."}])
        send(
            {"type": "result", "subtype": "success", "duration_ms": 1, "duration_api_ms": 1,
             "is_error": False, "num_turns": 1, "session_id": self.session_id, "result": seen}
        )  # fmt: skip

    def unfinished(self) -> dict[str, Any] | None:
        """The call that a killed turn left without its result."""
        last = self.entries[-1]["message"]["content"][-1] if self.entries else None
        is_call = isinstance(last, dict) and last["type"] == "tool_use"
        return last if is_call else None

    def say(self, content: Iterable[dict[str, Any]]) -> None:
        message = self.keep("assistant", list(content))
        send({"type": "assistant", "message": message, "session_id": self.session_id})

    def keep(self, role: str, content: Any) -> dict[str, Any]:
        message = {"role": role, "content": content}
        if role == "assistant":
            message |= {"id": f"msg_{uuid4().hex}", "type": "message", "model": "scripted"}
        entry = {
            "type": role,
            "uuid": str(uuid4()),
            "parentUuid": self.entries[-1]["uuid"] if self.entries else None,
            "sessionId": self.session_id,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            "message": message,
        }
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        send({"type": "transcript_mirror", "filePath": str(self.path), "entries": [entry]})
        return message


def send(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
