"""A Pydantic AI agent that is killed in mid-turn, resumed, rewound and forked.

The agent and its loop are the real ones. The model is scripted, so that it takes neither a key
nor a network; with OPENAI_API_KEY (and pydantic-ai-slim[openai]) it is a real one.

    python examples/frameworks/pydantic_ai_agent.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile

from pydantic_ai import (
    Agent,
    Conversation,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.conversation_store import ConversationStore
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessionactor import SessionRegistry
from sessionactor.adapters.pydantic_ai import ActorConversationStore


def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Look the weather up, and then say what to take along."""
    said = messages[-1].parts[-1]
    if isinstance(said, ToolReturnPart):
        return ModelResponse(parts=[TextPart(f"{said.content} Take an umbrella.")])
    assert isinstance(said, UserPromptPart)
    city = str(said.content).rsplit(maxsplit=1)[-1].strip("?")
    return ModelResponse(parts=[ToolCallPart("weather", {"city": city})])


def agent() -> Agent:
    real = os.environ.get("OPENAI_MODEL", "openai:gpt-5-mini")
    model: Model | str = real if "OPENAI_API_KEY" in os.environ else FunctionModel(scripted)
    made = Agent(model)

    @made.tool_plain
    async def weather(city: str) -> str:
        """What the weather is in a city."""
        if os.environ.get("SLOW_TOOL"):
            print("looking out of the window", flush=True)
            await asyncio.sleep(3600)
        return f"It rains in {city}."

    return made


async def ask(store: ConversationStore, name: str, question: str | None) -> None:
    """A turn; what there is of it is saved before each step, so that a kill loses one at most."""
    conversation = await store.load(name) or Conversation(conversation_id=name)
    async with agent().iter(question, conversation=conversation) as run:
        async for _ in run:
            conversation.messages = run.all_messages()
            await store.save(conversation)
        assert run.result is not None
    conversation.usage = run.usage
    await store.save(conversation)


def told(messages: list[ModelMessage]) -> None:
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                print(f"  {part.part_kind:11} {part.tool_name}({part.args_as_dict()})")
            else:
                print(f"  {part.part_kind:11} {part.content}")


def killed_in_mid_turn(directory: str) -> None:
    """Ask in another process, and kill it while its tool works."""
    program = [sys.executable, __file__, directory, "What is the weather in Cologne?"]
    environment = {**os.environ, "SLOW_TOOL": "1"}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking out of the window\n"
        child.kill()


async def loaded(store: ConversationStore, name: str) -> Conversation:
    found = await store.load(name)
    assert found is not None
    return found


async def main(directory: str) -> None:
    killed_in_mid_turn(directory)
    async with SessionRegistry(directory) as registry:
        store = ActorConversationStore(registry)
        print("killed; what is there")
        told((await loaded(store, "trip")).messages)

        print("resumed")
        await ask(store, "trip", None)
        trip = await loaded(store, "trip")
        told(trip.messages[2:])

        print("rewound to the question, and asked another one")
        await store.branch("trip", at=0, expected_revision=trip.revision)
        await ask(store, "trip", "And in Bonn?")
        told((await loaded(store, "trip")).messages)
        (record,) = await store.list_conversations()
        left = await store.read_history(record.branches[0])
        print(f"  left behind, and kept: {len(left)} messages")

        await store.fork("trip", new_conversation_id="a copy")
        await ask(store, "a copy", "And in Aachen?")
        here, there = [(await loaded(store, name)).messages for name in ("trip", "a copy")]
        print(f"forked: {len(here)} messages here, {len(there)} there")
        shared = await store.load_entries("trip")
        assert shared is not None
        assert shared == (await store.load_entries("a copy") or [])[: len(shared)]

        await registry.flush("trip")
        found = await registry.search("umbrella", session_id="trip")
        print(f"found in trip: {len(found)} messages with an umbrella")


async def asked_once(directory: str, question: str) -> None:
    async with ActorConversationStore(directory) as store:
        await ask(store, "trip", question)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(asked_once(*sys.argv[1:]))
    elif len(sys.argv) == 2:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            asyncio.run(main(place))
