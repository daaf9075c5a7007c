"""The threads of LangGraph in a directory: which session is whose, and what is remembered."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from sessionactor import Row, SessionNotFoundError, SessionRegistry, StaleRevisionError
from sessionactor.adapters._langgraph_bases import Bases, Latest
from sessionactor.adapters._langgraph_retention import Stored
from sessionactor.adapters._langgraph_thread import Thread

_KEPT_THREADS: Final = 4096
_MAX_CHARACTERS: Final = 200
_HASH_HEX: Final = 32
_CUT: Final = re.compile(rf".*~[0-9a-f]{{{_HASH_HEX}}}", re.DOTALL)
_registries: WeakKeyDictionary[SessionRegistry, Threads] = WeakKeyDictionary()


def threads_of(registry: SessionRegistry) -> Threads:
    """The threads of a registry: the same for all savers on it."""
    found = _registries.get(registry)
    if found is None:
        found = _registries[registry] = Threads()
    return found


class Threads:
    """The threads in use, each once, and a few that were."""

    def __init__(self) -> None:
        self._used: WeakValueDictionary[str, Thread] = WeakValueDictionary()
        self._recent: OrderedDict[str, Thread] = OrderedDict()
        self._bases = Bases()
        self.latest = Latest()

    def get(self, registry: SessionRegistry, thread_id: str) -> Thread:
        """The thread of that id; whether it exists is another question."""
        thread = self._used.get(thread_id)
        if thread is None:
            thread = Thread(registry, session_id_of(thread_id), thread_id, self._bases)
            self._used[thread_id] = thread
        elif registry.whereis(thread.session_id) is None:
            thread.forget()  # another process may have had it meanwhile
        self._recent[thread_id] = thread
        self._recent.move_to_end(thread_id)
        if len(self._recent) > _KEPT_THREADS:
            self._recent.popitem(last=False)
        return thread


def session_id_of(thread_id: str) -> str:
    """The id of a thread's session: its own, if a session can have it."""
    legal = 0 < len(thread_id) <= _MAX_CHARACTERS and "\0" not in thread_id
    try:
        data = thread_id.encode()
    except UnicodeEncodeError:
        legal, data = False, thread_id.encode(errors="surrogatepass")
    if legal:
        return thread_id
    readable = data.decode(errors="replace").replace("\0", "\ufffd")
    digest = hashlib.sha256(data).hexdigest()[:_HASH_HEX]
    return f"{readable[: _MAX_CHARACTERS - _HASH_HEX - 1]}~{digest}"


def is_cut(session_id: str) -> bool:
    """Whether a session's id may be other than its thread's."""
    return _CUT.fullmatch(session_id) is not None


async def retain(thread: Thread, choose: Callable[[Stored], Iterable[Row]]) -> None:
    """Remove all but the chosen checkpoints, at once, and give the space back to the disk.

    What the others need of them stays. So does what is put meanwhile.
    """
    while True:
        try:
            revision = await thread.session.revision()
            stored = Stored(await thread.session.messages())
            remains = stored.remains(choose(stored))
            if not remains.removed and not remains.changed:
                return
            thread.forget()
            async with thread.session.batch(expected_revision=revision) as batch:
                batch.remove(remains.removed)
                for db_id, message in remains.changed.items():
                    batch.update(db_id, message)
            await thread.session.compact()
        except StaleRevisionError:
            continue
        except SessionNotFoundError:
            return
        return
