"""An agent of OpenAI Agents that is killed in mid-turn, resumed, rewound and forked.

The runner, its loop and its tools are the real ones. The model is scripted, so that it takes
neither a key nor a network; with OPENAI_API_KEY it is a real one.

    python examples/frameworks/openai_agents_loop.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from agents import Agent, RunConfig, Runner, TResponseInputItem, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from sessionactor import SessionRegistry
from sessionactor.adapters.openai_agents import ActorSession

CONFIG = RunConfig(tracing_disabled=True)


@function_tool
async def weather(city: str) -> str:
    """What the weather is in a city."""
    if os.environ.get("SLOW_TOOL"):
        print("looking out of the window", flush=True)
        await asyncio.sleep(3600)
    return f"It rains in {city}."


def agent_for(*cities: str) -> Agent[Any]:
    """Looks the weather of each city up, and says what to take along."""
    instructions = "Look the weather up, then say in a sentence what to take along."
    if "OPENAI_API_KEY" in os.environ:
        return Agent(name="guide", instructions=instructions, tools=[weather])
    steps = []
    for city in cities:
        steps.append([function_call("weather", {"city": city}, call_id=f"call-{city}")])
        steps.append([assistant_message(f"It rains in {city}. Take an umbrella.")])
    return Agent(
        name="guide", instructions=instructions, tools=[weather], model=ScriptedModel(steps=steps)
    )


async def ask(session: ActorSession, city: str, question: str | list[Any]) -> str:
    done = await Runner.run(agent_for(city), question, session=session, run_config=CONFIG)
    return str(done.final_output)


def killed_in_mid_turn(directory: str) -> None:
    """Ask in another process, and kill it while its tool works."""
    program = [sys.executable, __file__, directory, "ask"]
    environment = {**os.environ, "SLOW_TOOL": "1"}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking out of the window\n"
        child.kill()


def tell(items: Iterable[TResponseInputItem]) -> None:
    for item in items:
        said: Any = item
        kind = said.get("role") or said["type"]
        content = said.get("content") or said.get("arguments") or said.get("output")
        text = content if isinstance(content, str) else content[0]["text"]
        print(f"  {kind:20} {text}")


async def main(directory: str) -> None:
    killed_in_mid_turn(directory)
    async with SessionRegistry(directory) as registry:
        session = ActorSession("trip", registry)
        print("killed; what is there")
        tell(await session.get_items())

        print("resumed")
        await ask(session, "Cologne", [])  # no new question: the one that is there
        tell((await session.get_items())[1:])

        await ask(session, "Bonn", "And in Bonn?")
        print("rewound")
        while (item := await session.pop_item()) != {"content": "And in Bonn?", "role": "user"}:
            assert item is not None
        await ask(session, "Aachen", "And in Aachen?")
        tell(await session.get_items(4))

        print("forked")
        fork = await session.fork("another-trip")
        await ask(fork, "Trier", "And in Trier?")
        print(f"  {len(await session.get_items())} items here, {len(await fork.get_items())} there")
        for hit in await session.search("cologne umbrella"):
            print(f"  found in {hit.session_id}: {hit.snippet}")


async def first_question(directory: str) -> None:
    await ask(ActorSession("trip", directory), "Cologne", "What is the weather in Cologne?")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(first_question(sys.argv[1]))
    elif len(sys.argv) == 2:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            asyncio.run(main(place))
