"""An agent of the Claude Agent SDK that is killed in mid-turn, resumed, rewound and forked.

The SDK is the real one: its protocol, its mirroring, its resumption from a store. In the place of
`claude` it starts `claude_scripted.py`, which takes neither a key nor a network; with
ANTHROPIC_API_KEY it starts `claude` itself.

    python examples/frameworks/claude_store.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    SessionKey,
    ToolUseBlock,
    fork_session_via_store,
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
    query,
)

from sessionactor.adapters.claude import ActorSessionStore

NAME = "5f0c9d1e-7a34-4c1b-9c55-0a2b8f6d4e10"


def options(directory: Path, store: ActorSessionStore, **more: Any) -> ClaudeAgentOptions:
    # "eager": each entry is stored as soon as it is said, not at the end of the turn.
    made = ClaudeAgentOptions(
        cwd=directory, session_store=store, session_store_flush="eager", **more
    )
    if "ANTHROPIC_API_KEY" not in os.environ:
        made.cli_path = directory / "claude"
        scripted = Path(__file__).with_name("claude_scripted.py")
        made.cli_path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{scripted}" "$@"\n')
        made.cli_path.chmod(0o755)
        os.environ["CLAUDE_CONFIG_DIR"] = str(directory / "config")
    return made


def key_of(directory: Path) -> SessionKey:
    return {"project_key": project_key_for_directory(directory), "session_id": NAME}


async def ask(directory: Path, store: ActorSessionStore, prompt: str, resume: str) -> None:
    async for _ in query(prompt=prompt, options=options(directory, store, resume=resume)):
        pass


async def first_question(directory: Path) -> None:
    """Ask, and say so once the call of a tool is in the store; then its result is waited for."""
    async with ActorSessionStore(directory / "sessions") as store:
        asked = options(directory, store, session_id=NAME, allowed_tools=["WebSearch"])
        async for message in query(prompt="What is the weather in Cologne?", options=asked):
            if isinstance(message, AssistantMessage) and any(
                isinstance(block, ToolUseBlock) for block in message.content
            ):
                while len(await store.load(key_of(directory)) or []) < 2:
                    await asyncio.sleep(0.01)
                print("looking out of the window", flush=True)


def killed_in_mid_turn(directory: Path) -> None:
    program = [sys.executable, __file__, str(directory), "ask"]
    environment = {**os.environ, "SLOW_TOOL": "1"}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking out of the window\n"
        child.kill()


def tell(entries: list[Any]) -> None:
    for entry in entries:
        content = entry["message"]["content"]
        block = {"text": content} if isinstance(content, str) else content[-1]
        said = block.get("text") or block.get("content") or block.get("input")
        print(f"  {entry['type']:9} {said}")


async def main(directory: Path) -> None:
    killed_in_mid_turn(directory)
    async with ActorSessionStore(directory / "sessions") as store:
        key = key_of(directory)
        print("killed; what is there")
        tell(await store.load(key) or [])

        await ask(directory, store, "Go on.", NAME)
        print("resumed")
        tell((await store.load(key) or [])[2:])

        await ask(directory, store, "And in Bonn?", NAME)
        session = await store.session(key)
        removed = await session.truncate_from(5)
        await ask(directory, store, "And in Aachen?", NAME)
        print(f"rewound: {removed} entries removed, and others said")
        tell((await store.load(key) or [])[4:])

        fork = await fork_session_via_store(store, NAME, directory=str(directory))
        await ask(directory, store, "And in Trier?", fork.session_id)
        there = await get_session_messages_from_store(
            store, fork.session_id, directory=str(directory)
        )
        print(f"forked: {len(await store.load(key) or [])} entries here, {len(there)} there")

        listed = await list_sessions_from_store(store, directory=str(directory))
        print(f"listed: {', '.join(sorted(str(one.first_prompt) for one in listed))}")
        registry = await store.registry()
        hits = await registry.search("aachen umbrella", session_id=session.session_id)
        print(f"found: {hits[0].snippet}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(first_question(Path(sys.argv[1])))
    elif len(sys.argv) == 2:
        asyncio.run(main(Path(sys.argv[1]).absolute()))
    else:
        with tempfile.TemporaryDirectory() as place:
            asyncio.run(main(Path(place)))
