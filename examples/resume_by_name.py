"""Resuming by name after a restart: a glob finds the conversations, each goes on where it was.

The first registry is the program's first life, the second one its next.
"""

import asyncio
import tempfile

from sessionactor import SessionNotFoundError, SessionRegistry


async def first_life(directory: str) -> None:
    async with SessionRegistry(directory) as registry:
        for name in ("support-anna", "support-bert", "sales-anna"):
            session = await registry.start(name=name)  # with a fresh random id
            for number in range(1, 6):
                said = {"role": "user", "content": f"{name} says {number}"}
                await session.append("user", said)
            summary = {"role": "summary", "content": f"{name} has counted to five"}
            await session.append("agent", summary, keep_from=5)
            await session.append("user", {"role": "user", "content": f"{name} is still there"})


async def second_life(directory: str) -> None:
    async with SessionRegistry(directory) as registry:
        for file in await registry.find("support-*"):
            session = registry.session(file.session_id)
            chapter, checkpoint_id = await session.messages_from_latest_checkpoint()
            print(f"{file.name} resumes from message {checkpoint_id}:")
            for row in chapter:
                print(f"  {row.db_id} {row.message['content']}")
            await session.append("agent", {"role": "assistant", "content": "Welcome back!"})

        running = registry.statistics().active
        print(f"{running} of {len(await registry.find('*'))} sessions are open")
        anna = await registry.find_by_name("sales-anna")
        print(f"sales-anna is running: {registry.whereis(anna.session_id) is not None}")
        try:
            await registry.find_by_name("support-carl")
        except SessionNotFoundError as error:
            print(error)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        await first_life(directory)
        await second_life(directory)


asyncio.run(main())
