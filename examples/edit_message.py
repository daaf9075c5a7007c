"""Editing an earlier message: what follows it is cut off, and the agent is asked again.

The edit and the new question are one batch, so nobody ever sees the conversation without
either. The condition keeps an edit from cutting off what its author has not seen.
"""

import asyncio
import tempfile

from sessionactor import Session, SessionRegistry, StaleRevisionError


async def answer(session: Session) -> None:
    """The agent: it answers the newest question."""
    (question,) = await session.messages(limit=1, newest=True)
    capitals = {"Australia": "Canberra", "Austria": "Vienna"}
    country = question.message["content"].rstrip("?").split()[-1]
    reply = {"role": "assistant", "content": f"{capitals[country]}."}
    await session.append("agent", reply, parent=question.db_id)


async def edit(session: Session, db_id: int, content: str, revision: int) -> int:
    """Say something else instead of that message; the new message's id."""
    async with session.batch(expected_revision=revision) as batch:
        batch.truncate_from(db_id)
        batch.append("user", {"role": "user", "content": content})
    removed, new_id = batch.results
    print(f"edited: {removed} messages removed, the new one is {new_id}")
    return int(new_id)


async def show(session: Session, heading: str) -> None:
    print(f"{heading}:")
    for row in await session.messages():
        print(f"  {row.db_id} {row.message['role']}: {row.message['content']}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with SessionRegistry(directory) as registry:
            session = await registry.start("geography", name="capitals")
            await session.append("user", {"role": "user", "content": "Hello!"})
            asked = await session.append(
                "user", {"role": "user", "content": "What is the capital of Australia?"}
            )
            await answer(session)
            await show(session, "before")

            seen = await session.revision()
            await edit(session, asked, "What is the capital of Austria?", seen)
            await answer(session)
            await show(session, "after")  # ids go on: none is ever used again

            try:  # a second window still shows the old conversation, and edits it too
                await edit(session, asked, "What is the capital of Atlantis?", seen)
            except StaleRevisionError as error:
                print(f"refused: seen at revision {error.expected}, now at {error.actual}")


asyncio.run(main())
