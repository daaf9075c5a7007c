"""An agent server: hundreds of conversations at once, killed half-way, and none loses a word.

Every conversation is an agent loop in one session. Its questions are about the Python standard
library, and its tools really run: they search a module, read its source and ask `pydoc`. Only
the model is scripted, so that no key and no network is needed. When a conversation's context
is full, the agent writes a summary, a checkpoint, and goes on from the latest chapter.

This program starts the server as a child, kills it with SIGKILL half-way, and starts it again;
it resumes every conversation from its file. Then the files are compared with a journal of all
that the store had answered, and one conversation is paged back through its chapters.

    python examples/agent_server.py
    python examples/agent_server.py --conversations 20 --steps 30 --directory kept-here
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agent import model, tools
from agent.proof import Journal, Proof, answered, prove, step_key
from agent.watching import Run, Screen, State, run_server

from sessionactor import Session, SessionRegistry

REPORT_EVERY_S = 0.1


async def serve(options: argparse.Namespace) -> None:
    """Hold every conversation until it has all its messages, however often this is started."""
    stored: dict[str, int] = {}
    allow_open_files(4096)
    with contextlib.closing(Journal(options.journal)) as journal:
        async with SessionRegistry(options.directory / "sessions") as registry:
            sessions = [registry.session(file.session_id) for file in await registry.find("*")]
            for number in range(len(sessions), options.conversations):
                topic = tools.MODULES[number % len(tools.MODULES)]
                sessions.append(await registry.start(id_of(number), name=f"about-{topic}"))
            async with asyncio.TaskGroup() as beside:
                reporting = beside.create_task(report(registry, stored))
                async with asyncio.TaskGroup() as loops:
                    for session in sessions:
                        loops.create_task(converse(session, options, journal, stored))
                reporting.cancel()
            print_state(registry, stored)


def allow_open_files(wanted: int) -> None:
    """As servers do; from the limit the registry takes how many sessions it keeps open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def converse(
    session: Session, options: argparse.Namespace, journal: Journal, stored: dict[str, int]
) -> None:
    """One agent loop. All that it knows is in its session: to resume is to go on."""
    topic = session.name.removeprefix("about-")
    while True:
        chapter, _ = await session.messages_from_latest_checkpoint()
        head = max((row.db_id for row in chapter), default=0)
        stored[session.session_id] = head
        if head >= options.steps:
            return
        said = await model.next_said(session.session_id, topic, chapter, options.think)
        metadata: dict[str, object] = {}
        if not chapter:
            metadata = {"title": said.message["content"]}
        elif model.is_answer(said):
            usage = await session.get_metadata()
            metadata = {"answers": int(usage.get("answers") or 0) + 1}
        key = step_key(head + 1)
        began = time.perf_counter()
        async with session.batch() as batch:  # the message and the metadata: both or neither
            batch.append(
                said.agent_id,
                said.message,
                key=key,  # repeated for whatever reason, it is stored once
                parent=chapter[-1].db_id if chapter else None,
                turn=said.turn,
                keep_from=said.keep_from,
            )
            if metadata:
                batch.save_metadata(metadata)
        seconds = time.perf_counter() - began
        # It was answered: from here on it is there, whatever happens to this process.
        journal.write(session.session_id, key, batch.results[0], said.message["content"], seconds)


async def report(registry: SessionRegistry, stored: dict[str, int]) -> None:
    while True:
        print_state(registry, stored)
        await asyncio.sleep(REPORT_EVERY_S)


def print_state(registry: SessionRegistry, stored: dict[str, int]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state: State = {
        "resumed": len(stored),
        "stored": sum(stored.values()),
        "active": registry.statistics().active,
        "files": len(os.listdir("/dev/fd")),
        "memory": peak if sys.platform == "darwin" else peak * 1024,
    }
    print(json.dumps(state), flush=True)


def demonstrate(options: argparse.Namespace) -> int:
    """Run the server, kill it, run it again, and compare the files with the journals."""
    total = options.conversations * options.steps
    screen = Screen(total)
    session_ids = [id_of(number) for number in range(options.conversations)]
    topic = "conversations about the standard library"
    screen.say(f"{len(session_ids)} {topic}, {options.steps} messages each")
    files = options.directory / "sessions"
    journals = [options.directory / f"answered-{life}.jsonl" for life in (1, 2)]

    first = run_server(command(options, journals[0]), len(session_ids), screen, total // 2)
    if first.returncode != -signal.SIGKILL:
        screen.say(f"FAILED: the server ended with {first.returncode} before it was killed")
        return 1
    killed = prove(files, journals[:1], session_ids, None)
    screen.say(
        f"SIGKILL after {killed.answered:,} answered messages; the files hold"
        f" {killed.stored:,}: {verdict(killed)}"
    )
    second = run_server(command(options, journals[1]), len(session_ids), screen)
    if second.returncode != 0:
        screen.say(f"FAILED: the server ended with {second.returncode}")
        return 1
    ended = prove(files, journals, session_ids, options.steps)
    screen.say(
        f"finished: {ended.answered:,} answered; the files hold {ended.stored:,}: {verdict(ended)}"
    )
    asyncio.run(page_back(files, session_ids[len(session_ids) // 2]))
    print_figures(ended, (first, second), journals)
    problems = killed.problems + ended.problems
    for problem in problems[:20]:
        print(problem)
    if problems:
        print(f"FAILED: {len(problems)} things are wrong")
        return 1
    print("OK: nothing that was answered is lost or doubled")
    return 0


def command(options: argparse.Namespace, journal: Path) -> list[str]:
    """The command line of the server."""
    line = [sys.executable, __file__, "--serve", "--journal", str(journal)]
    for name in ("conversations", "steps", "think", "directory"):
        line += [f"--{name}", str(getattr(options, name))]
    return line


def verdict(proof: Proof) -> str:
    return f"{len(proof.problems)} PROBLEMS" if proof.problems else "none lost or doubled"


async def page_back(directory: Path, session_id: str) -> None:
    """Show a whole conversation as a reader scrolls it: the latest chapter, then earlier ones."""
    async with SessionRegistry(directory) as registry:
        session = registry.session(session_id)
        metadata = await session.get_metadata()
        print(f"\n{session_id} ({session.name}), {metadata.get('answers') or 0} answers given")
        heading = "the latest chapter"
        async for rows, checkpoint_id in session.chapters():
            print(f"\n  {heading}")
            for row in rows:
                text = " ".join(row.message["content"].split())
                print(f"  {row.db_id:5}  {row.message['role']:9}  {text[:60]}")
            heading = f"the chapter before {checkpoint_id}"


def print_figures(proof: Proof, runs: Sequence[Run], journals: Sequence[Path]) -> None:
    waits = sorted(line.seconds * 1000 for line in answered(journals))
    p50, p95, p99 = (waits[int(len(waits) * share)] for share in (0.50, 0.95, 0.99))
    seconds = sum(run.seconds for run in runs)
    active, files, memory = (max(run[field] for run in runs) for field in (2, 3, 4))
    rate, megabytes = proof.answered / seconds, proof.content_bytes / 1e6
    print()
    print(
        f"messages      {proof.stored:,}, {megabytes:.1f} MB of text, {proof.summaries} summaries"
    )
    print(f"throughput    {rate:,.0f} appends/s for {seconds:.1f} s, at the pace of the model")
    print(f"an append     p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, on disk")
    print(f"open at once  {active} sessions in {files} files")
    print(f"memory        {memory / 1e6:.0f} MB at most, with Python and the tools")
    print()


def id_of(number: int) -> str:
    return f"conversation-{number:04}"


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, read."""
    parser = argparse.ArgumentParser(description="hundreds of conversations, killed half-way")
    parser.add_argument("--conversations", type=int, default=300, help="how many at once")
    parser.add_argument("--steps", type=int, default=50, help="messages in each of them")
    parser.add_argument("--think", type=float, default=0.7, help="seconds the model takes")
    parser.add_argument("--directory", type=Path, help="an empty one, to keep what was made")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.conversations < 1 or options.steps < 2:
        parser.error("at least 1 conversation and 2 steps")
    kept = None if options.serve else options.directory
    if kept and kept.exists() and any(kept.iterdir()):
        parser.error(f"{kept} is not empty")
    return options


def main() -> int:
    options = options_of()
    if options.serve:
        asyncio.run(serve(options))
        return 0
    with contextlib.ExitStack() as stack:
        if options.directory is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-server-"))
            options.directory = Path(made)
        options.directory.mkdir(parents=True, exist_ok=True)
        return demonstrate(options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
