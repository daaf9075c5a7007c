"""The shortest program: a conversation is stored as it is said, and read again."""

import asyncio

from sessionactor import SessionRegistry


async def main() -> None:
    async with SessionRegistry("sessions") as registry:
        session = await registry.start(name="crazy-mango")
        await session.append("user", {"role": "user", "content": "What is an actor?"})
        await session.append("agent", {"role": "assistant", "content": "One task, one mailbox."})

        for row in await session.messages():
            print(row.db_id, row.agent_id, row.message["content"])
        print("in", session.path)


asyncio.run(main())
