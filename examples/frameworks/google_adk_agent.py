"""An ADK agent that is killed in mid-turn, resumed, rewound and forked.

The runner and its flow are the real ones. The model is scripted, so that it takes neither a key
nor a network; with GOOGLE_API_KEY it is a real one.

    python examples/frameworks/google_adk_agent.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps.app import App, ResumabilityConfig
from google.adk.events.event import Event
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.tools import ToolContext
from google.genai import types

from sessionactor import SessionRegistry
from sessionactor.adapters.google_adk import ActorSessionService

TRIP = {"user_id": "ada", "session_id": "trip"}


async def weather(city: str, tool_context: ToolContext) -> dict[str, str]:
    """What the weather is in a city."""
    if os.environ.get("SLOW_TOOL"):
        print("looking out of the window", flush=True)
        await asyncio.sleep(3600)
    tool_context.state["city"] = city
    tool_context.state["user:asked"] = tool_context.state.get("user:asked", 0) + 1
    return {"weather": f"It rains in {city}."}


class Scripted(BaseLlm):
    """Looks the weather up, and then says what to take along."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        part = llm_request.contents[-1].parts[-1]
        if part.function_response:
            answer = types.Part(text=f"{part.function_response.response['weather']} Take a hat.")
        else:
            city = str(part.text).rsplit(maxsplit=1)[-1].strip("?")
            answer = types.Part.from_function_call(name="weather", args={"city": city})
        yield LlmResponse(content=types.Content(role="model", parts=[answer]))


def runner(service: ActorSessionService) -> Runner:
    real = os.environ.get("GOOGLE_MODEL", "gemini-2.5-flash")
    model = real if "GOOGLE_API_KEY" in os.environ else Scripted(model="scripted")
    agent = LlmAgent(name="guide", model=model, tools=[weather])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\[EXPERIMENTAL\]")  # ADK says so of resuming
        resumable = ResumabilityConfig(is_resumable=True)
    app = App(name="travel", root_agent=agent, resumability_config=resumable)
    return Runner(app=app, session_service=service, auto_create_session=True)


async def ask(
    travel: Runner, question: str | None, session_id: str = "trip", **more: Any
) -> list[Event]:
    asked = None
    if question is not None:
        asked = types.Content(role="user", parts=[types.Part(text=question)])
    said = travel.run_async(user_id="ada", session_id=session_id, new_message=asked, **more)
    return [event async for event in said]


def told(events: list[Event]) -> None:
    for event in events:
        for part in (event.content.parts if event.content else None) or []:
            if part.function_call:
                print(f"  {event.author:5} {part.function_call.name}({part.function_call.args})")
            elif part.function_response:
                print(f"  {event.author:5} -> {part.function_response.response}")
            else:
                print(f"  {event.author:5} {part.text}")


def killed_in_mid_turn(directory: str) -> None:
    """Ask in another process, and kill it while its tool works."""
    program = [sys.executable, __file__, directory, "What is the weather in Cologne?"]
    environment = {**os.environ, "SLOW_TOOL": "1"}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking out of the window\n"
        child.kill()


async def main(directory: str) -> None:
    killed_in_mid_turn(directory)
    async with SessionRegistry(directory) as registry:
        service = ActorSessionService(registry)
        travel = runner(service)

        session = await service.get_session(app_name="travel", **TRIP)
        assert session is not None
        print("killed; what is there")
        told(session.events)

        print("resumed")
        first = session.events[0].invocation_id
        told(await ask(travel, None, invocation_id=first))

        print("asked again, and rewound")
        (bonn, *_) = await ask(travel, "And in Bonn?")
        before = await service.get_session(app_name="travel", **TRIP)
        await travel.rewind_async(**TRIP, rewind_before_invocation_id=bonn.invocation_id)
        after = await service.get_session(app_name="travel", **TRIP)
        assert before is not None
        assert after is not None
        print(f"  {before.state} became {after.state}")

        fork = await service.fork_session(
            app_name="travel", **TRIP, before_invocation_id=bonn.invocation_id
        )
        told(await ask(travel, "And in Aachen?", fork.id))
        listed = await service.list_sessions(app_name="travel", user_id="ada")
        states = sorted(str(one.state.get("city")) for one in listed.sessions)
        print(f"forked: {len(states)} sessions, of {' and '.join(states)}")

        stored = await service.conversation(app_name="travel", **TRIP)
        await stored.flush()
        found = await registry.search("hat", session_id=stored.session_id)
        print(f"found in {stored.session_id}: {len(found)} messages with a hat")


async def asked_once(directory: str, question: str) -> None:
    async with ActorSessionService(directory) as service:
        await ask(runner(service), question)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(asked_once(*sys.argv[1:]))
    elif len(sys.argv) == 2:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            asyncio.run(main(place))
