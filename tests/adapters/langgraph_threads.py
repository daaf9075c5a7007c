"""Threads for the tests of the LangGraph adapter: checkpoints as a graph makes them."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6


def thread(thread_id: str, checkpoint_id: str | None = None, namespace: str = "") -> RunnableConfig:
    configurable = {"thread_id": thread_id, "checkpoint_ns": namespace}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def checkpoint(
    values: dict[str, Any], versions: dict[str, Any] | None = None, checkpoint_id: str | None = None
) -> Any:
    """A checkpoint whose channels have these versions; without them, each one of its own."""
    made = checkpoint_id or str(uuid6())
    return {
        "v": 4,
        "id": made,
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions or dict.fromkeys(values, made),
        "versions_seen": {"agent": versions or {}},
        "updated_channels": sorted(values),
    }


def said(number: int, text: str = "") -> BaseMessage:
    kind = AIMessage if number % 2 else HumanMessage
    return kind(content=text or f"message {number}", id=f"m{number}")


async def put(
    saver: BaseCheckpointSaver[Any],
    config: RunnableConfig,
    values: dict[str, Any],
    versions: dict[str, Any] | None = None,
    **metadata: Any,
) -> RunnableConfig:
    """Put a checkpoint after the one that `config` names, and say where it is."""
    made = checkpoint(values, versions)
    known: Any = {"source": "loop", "step": 0, "parents": {}, **metadata}
    return await saver.aput(config, made, known, made["channel_versions"])


async def grow(
    saver: BaseCheckpointSaver[Any], thread_id: str, checkpoints: int, text: str = ""
) -> RunnableConfig:
    """A conversation with one message more in every checkpoint, as an agent's loop makes it."""
    config = thread(thread_id)
    messages: list[BaseMessage] = []
    version = None
    for step in range(checkpoints):
        messages = [*messages, said(step, f"{text}{step}")]
        version = saver.get_next_version(version, None)
        config = await put(saver, config, {"messages": messages}, {"messages": version}, step=step)
        await saver.aput_writes(config, [("messages", [messages[-1]])], f"task {step}")
    return config


async def listed(
    saver: BaseCheckpointSaver[Any], config: RunnableConfig | None, **options: Any
) -> list[CheckpointTuple]:
    return [one async for one in saver.alist(config, **options)]


def ids(found: list[CheckpointTuple]) -> list[str]:
    return [one.checkpoint["id"] for one in found]


def id_of(config: RunnableConfig) -> str:
    found: str = config["configurable"]["checkpoint_id"]
    return found
