"""The agent's tools, which really run: they search, read and document the standard library."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pydoc
import re
import tokenize
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

MODULES: Final = tuple(
    """
    argparse ast asyncio.base_events asyncio.locks asyncio.queues asyncio.streams asyncio.tasks
    base64 bdb bisect calendar cmd collections concurrent.futures.thread configparser
    contextlib copy csv dataclasses difflib dis email.message email.utils enum filecmp
    fileinput fnmatch fractions ftplib functools getpass gettext glob gzip heapq hmac html.parser
    http.client http.cookiejar http.cookies http.server imaplib inspect
    ipaddress json.decoder json.encoder linecache locale logging logging.config logging.handlers
    mailbox mimetypes multiprocessing.managers multiprocessing.pool netrc numbers operator
    optparse pdb pickle pkgutil platform plistlib poplib pprint pstats
    py_compile pyclbr pydoc queue quopri random reprlib rlcompleter sched secrets selectors
    shelve shlex shutil smtplib socket socketserver statistics string subprocess symtable
    sysconfig tabnanny tarfile tempfile textwrap threading timeit tokenize trace traceback
    tracemalloc types unittest.case unittest.mock urllib.parse urllib.request
    urllib.robotparser uuid warnings wave weakref webbrowser xml.dom.minidom
    xml.etree.ElementTree xml.sax.saxutils xmlrpc.client zipapp zipfile
    """.split()
)
LINES: Final = 200
MOST_CHARACTERS: Final = 7_000
"""What one tool may answer: a model's context is not endless."""


def search(module: str, word: str) -> str:
    """Every line of a module's source that has the word, with its number."""
    path, lines = source(module)
    has_word = re.compile(rf"\b{re.escape(word)}\b").search
    hits = [
        f"{path.name}:{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if word in line and has_word(line)
    ]
    return _cut("\n".join(hits)) or "nothing found"


def read(module: str, start: int) -> str:
    """A page of a module's source from a line on."""
    path, lines = source(module)
    page = lines[start - 1 : start - 1 + LINES]
    heading = f"{path.name}, lines {start} to {start + len(page) - 1} of {len(lines)}"
    return _cut("\n".join((heading, *page)))


@cache
def document(name: str) -> str:
    """What `pydoc` says about a module, a class or a function."""
    return _cut(pydoc.plain(pydoc.render_doc(name)))


_THREAD: Final = ThreadPoolExecutor(1, "tools")
# One: what only computes is no faster in several, and they would all fight the event loop.


async def in_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Carry a function out beside the event loop: nobody waits for a tool but its own agent."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, function, *arguments)


TOOLS: Final[dict[str, Callable[..., str]]] = {
    "search": search,
    "read": read,
    "document": document,
}


def run(name: str, arguments: dict[str, Any]) -> str:
    """What a tool answers; what went wrong is an answer too."""
    try:
        return TOOLS[name](**arguments)
    except (ImportError, LookupError, OSError, SyntaxError) as error:
        return f"{name} failed: {error}"


@cache
def source(module: str) -> tuple[Path, list[str]]:
    """The file of a module, and its lines."""
    path = inspect.getsourcefile(importlib.import_module(module))
    if path is None:
        raise LookupError(f"{module} has no source in Python")
    with tokenize.open(path) as file:
        return Path(path), file.read().splitlines()


@cache
def public_names(module: str) -> tuple[str, ...]:
    """The classes and functions that a module defines."""
    _, lines = source(module)
    contents = vars(importlib.import_module(module))
    names = (
        node.name
        for node in ast.parse("\n".join(lines)).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return tuple(dict.fromkeys(name for name in names if name in contents and name[0] != "_"))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n[cut]"
