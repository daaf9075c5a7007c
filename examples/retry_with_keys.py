"""Retrying after a cancellation: with a key, a message that was stored is not stored again.

A caller that is cancelled does not know whether its message arrived. Without a key a retry
may store it twice; with one it gets the answer that was lost.
"""

import asyncio
import tempfile

from sessionactor import IdempotencyError, Session, SessionRegistry

MESSAGE = {"role": "tool", "content": "42 rows were deleted"}


async def cancelled_append(session: Session, key: str | None) -> None:
    """Ask, and be cancelled before the answer comes, as by a request's timeout."""
    request = asyncio.create_task(session.append("tools", MESSAGE, key=key))
    await asyncio.sleep(0)  # it has asked
    request.cancel()
    try:
        await request
    except asyncio.CancelledError:
        print("  cancelled: was it stored? The caller cannot know")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with SessionRegistry(directory) as registry:
            for key in (None, "run-7/step-3"):
                session = await registry.start()
                print(f"with the key {key}:" if key else "without a key:")
                await cancelled_append(session, key)
                db_id = await session.append("tools", MESSAGE, key=key)
                stored = [row.db_id for row in await session.messages()]
                print(f"  the retry returned {db_id}, the session holds {stored}")

            row = await session.get(key="run-7/step-3")
            print(f"under that key: {row.message['content'] if row else None}")
            try:
                await session.append("tools", {"content": "another"}, key="run-7/step-3")
            except IdempotencyError as error:
                print(f"refused: the key is message {error.db_id}'s, and this is another message")


asyncio.run(main())
