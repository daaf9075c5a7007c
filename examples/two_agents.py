"""Two agents share a session: one order for everybody, and for each agent its own view.

A writer and a critic work at the same time, and neither locks anything. The critic's verdict
is stored only while nothing newer has been said; else it reads on first.
"""

import asyncio
import tempfile

from sessionactor import Row, Session, SessionRegistry, StaleHeadError


async def write(session: Session, being_read: asyncio.Event, improved: asyncio.Event) -> None:
    await being_read.wait()  # just while the critic thinks, the writer has a better idea
    await say(session, "writer", "A session is one actor and one file.")
    improved.set()


async def criticise(session: Session, being_read: asyncio.Event, improved: asyncio.Event) -> None:
    while True:
        (draft,) = await session.messages(limit=1, newest=True)
        being_read.set()
        await improved.wait()
        good = "actor" in draft.message["content"]
        verdict = "Publish it." if good else "What owns the file?"
        try:
            await say(session, "critic", verdict, on=draft)
        except StaleHeadError as error:
            print(f"refused: the critic had read up to {error.expected}, now it is {error.actual}")
        else:
            return


async def say(session: Session, agent: str, content: str, on: Row | None = None) -> None:
    """Store what an agent says; about another message, only while that is the newest one."""
    message = {"role": "assistant", "content": content}
    head = on.db_id if on else None
    await session.append(agent, message, parent=head, expected_head=head)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with SessionRegistry(directory) as registry:
            session = await registry.start("pair", name="writer-and-critic")
            await say(session, "writer", "A session is one file.")
            being_read, improved = asyncio.Event(), asyncio.Event()
            await asyncio.gather(
                write(session, being_read, improved), criticise(session, being_read, improved)
            )

            print("everybody sees one order:")
            for row in await session.messages():
                about = f", about {row.parent}" if row.parent else ""
                print(f"  {row.db_id} {row.agent_id}{about}: {row.message['content']}")
            for agent in ("writer", "critic"):
                own = await session.messages(agent_id=agent)
                print(f"the {agent} alone: {[row.db_id for row in own]}")


asyncio.run(main())
