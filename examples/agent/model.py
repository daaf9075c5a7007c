"""The scripted model: decides from the chapter alone what is said next, as a real one does.

A user asks about a class or function; the agent searches for it, reads its source, asks
`pydoc` and answers. When the chapter is as long as the model's context, it writes a summary
instead, and keeps the question under way whole: half a question would leave a tool's answer
without its call.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from agent import tools
from sessionactor import Row

Message = dict[str, Any]

CONTEXT_CHARACTERS: Final = 28_000
MOST_REMEMBERED: Final = 30
QUESTIONS: Final = (
    "What does `{}` do, and where is it written?",
    "How does `{}` work inside? Please look at the source.",
    "I am about to use `{}`. What should I know about it?",
    "Is `{}` what I need here, and what does it promise?",
)


class Said(NamedTuple):
    """What is to be stored next."""

    agent_id: str
    message: Message
    turn: str
    keep_from: int | None = None


async def next_said(who: str, topic: str, chapter: Sequence[Row], think_s: float) -> Said:
    """What comes next in the conversation `who`, whose latest chapter is this one.

    The content stands last in every message, where `agent.proof` finds it.
    """
    if sum(len(row.message["content"]) for row in chapter) > CONTEXT_CHARACTERS:
        return _summary(chapter)
    last = chapter[-1] if chapter else None
    if last is not None and "tool_call" in last.message:
        call = last.message["tool_call"]
        content = await tools.in_thread(tools.run, call["name"], call["arguments"])
        return Said("tools", {"role": "tool", **call, "content": content}, _turn(chapter))
    await asyncio.sleep(random.uniform(0.5, 1.5) * think_s)
    if last is None or last.message["role"] == "assistant":
        number = int(_turn(chapter)) + 1
        return Said("user", await tools.in_thread(_question, who, topic, number), str(number))
    return Said("agent", _reply(chapter), _turn(chapter))


def is_answer(said: Said) -> bool:
    """Whether a question was answered with this."""
    return said.message["role"] == "assistant" and "tool_call" not in said.message


def _turn(chapter: Sequence[Row]) -> str:
    return (chapter[-1].turn if chapter else None) or "0"


def _question(who: str, topic: str, number: int) -> Message:
    """The same in every process: about one name of the topic after another, or about others."""
    chosen = random.Random(f"{who} {number}")
    if number % 4 == 0:
        module = chosen.choice(tools.MODULES)
        name = chosen.choice(tools.public_names(module))
    else:
        module, names = topic, list(tools.public_names(topic))
        random.Random(who).shuffle(names)
        name = names[number % len(names)]
    return {"role": "user", "content": chosen.choice(QUESTIONS).format(f"{module}.{name}")}


def _reply(chapter: Sequence[Row]) -> Message:
    """The next tool call, or the answer, from what the question's own messages say."""
    turn = chapter[-1].turn
    said = [row.message for row in chapter if row.turn == turn and not row.checkpoint]
    found = {message["name"]: message["content"] for message in said if message["role"] == "tool"}
    (name,) = re.findall(r"`([\w.]+)`", said[0]["content"])
    module, _, short = name.rpartition(".")
    if "search" not in found:
        return _call(f"I look for {short} in {module}.", "search", module=module, word=short)
    if "read" not in found:
        places = re.findall(rf":(\d+): (?:async )?(?:class|def) {short}\b", found["search"])
        start = int(places[0]) if places else 1
        return _call(f"It is at line {start}; I read on there.", "read", module=module, start=start)
    if "document" not in found:
        return _call("Now what its documentation promises.", "document", name=name)
    place = found["read"].partition("\n")[0]
    promise = " ".join(found["document"].split("\n", 2)[-1].split())[:400]
    uses = len(found["search"].splitlines())
    return {
        "role": "assistant",
        "content": f"`{name}` is in {place}, and is named {uses} times there. {promise}",
    }


def _call(why: str, tool: str, /, **arguments: Any) -> Message:
    return {
        "role": "assistant",
        "tool_call": {"name": tool, "arguments": arguments},
        "content": why,
    }


def _summary(chapter: Sequence[Row]) -> Said:
    kept_from = max(row.db_id for row in chapter if row.message["role"] == "user")
    remembered: list[str] = []
    for row in chapter:
        message = row.message
        if row.checkpoint:
            remembered += message["content"].splitlines()[1:]
        elif row.db_id < kept_from and message["role"] == "assistant":
            remembered += [] if "tool_call" in message else [f"- {message['content'][:160]}"]
    heading = "Found out so far:"
    content = "\n".join((heading, *remembered[-MOST_REMEMBERED:]))
    return Said("agent", {"role": "summary", "content": content}, _turn(chapter), kept_from)
