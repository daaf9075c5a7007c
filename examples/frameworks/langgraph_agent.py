"""A LangGraph agent that is killed in mid-turn, resumed, rewound and forked.

The graph and its loop are the real ones. The model is scripted, so that it takes neither a
key nor a network; with ANTHROPIC_API_KEY (and langchain-anthropic) it is a real one.

    python examples/frameworks/langgraph_agent.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from sessionactor import SessionRegistry
from sessionactor.adapters.langgraph import ActorSaver

THREAD: RunnableConfig = {"configurable": {"thread_id": "trip"}}


@tool
async def weather(city: str) -> str:
    """What the weather is in a city."""
    if os.environ.get("SLOW_TOOL"):
        print("looking out of the window", flush=True)
        await asyncio.sleep(3600)
    return f"It rains in {city}."


class Scripted(BaseChatModel):
    """Looks the weather up, and then says what to take along."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = messages[-1]
        if isinstance(said, ToolMessage):
            answer = AIMessage(f"{said.content} Take an umbrella.")
        else:
            city = str(said.content).rsplit(maxsplit=1)[-1].strip("?")
            call = {"name": "weather", "args": {"city": city}, "id": f"call-{len(messages)}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def model() -> Any:
    if "ANTHROPIC_API_KEY" not in os.environ:
        return Scripted()
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model_name=os.environ.get("ANTHROPIC_MODEL", "claude-haiku-4-5"))


def graph(saver: ActorSaver) -> Any:
    speaker = model().bind_tools([weather])

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await speaker.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode([weather]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


async def ask(directory: str, question: str) -> None:
    async with ActorSaver(directory) as saver:
        asked = {"messages": [("user", question)]}
        # "sync": each step is stored before the next one begins.
        await graph(saver).ainvoke(asked, THREAD, durability="sync")


def killed_in_mid_turn(directory: str) -> None:
    """Ask in another process, and kill it while its tool works."""
    program = [sys.executable, __file__, directory, "What is the weather in Cologne?"]
    environment = {**os.environ, "SLOW_TOOL": "1"}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "looking out of the window\n"
        child.kill()


def told(messages: list[BaseMessage]) -> None:
    for message in messages:
        calls = "".join(
            f"{one['name']}({one['args']})" for one in getattr(message, "tool_calls", ())
        )
        print(f"  {message.type:6} {message.text or calls}")


async def main(directory: str) -> None:
    killed_in_mid_turn(directory)
    async with SessionRegistry(directory) as registry:
        saver = ActorSaver(registry)
        agent = graph(saver)

        state = await agent.aget_state(THREAD)
        print(f"killed before: {', '.join(state.next)}")
        told(state.values["messages"])

        print("resumed")
        done = await agent.ainvoke(None, THREAD)
        told(done["messages"][2:])

        history = [one async for one in agent.aget_state_history(THREAD)]
        print(f"rewound to the beginning, {len(history)} checkpoints ago")
        other = {"messages": [("user", "And in Bonn?")]}
        told((await agent.ainvoke(other, history[-1].config))["messages"])

        await saver.acopy_thread("trip", "a copy")
        copy: RunnableConfig = {"configurable": {"thread_id": "a copy"}}
        await agent.ainvoke({"messages": [("user", "And in Aachen?")]}, copy)
        lengths = [
            len((await agent.aget_state(config)).values["messages"]) for config in (THREAD, copy)
        ]
        print(f"forked: {lengths[0]} messages here, {lengths[1]} there")

        await registry.flush("trip")
        found = [hit for hit in await registry.search("umbrella") if hit.session_id == "trip"]
        print(f"found: {len(found)} messages with an umbrella")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(ask(*sys.argv[1:]))
    elif len(sys.argv) == 2:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            asyncio.run(main(place))
