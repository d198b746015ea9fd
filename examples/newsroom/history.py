"""Writes the git repository that the archivist reads: thirty commits, the same on every machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TOPICS = ("nats", "trio", "mcp", "supervision", "backoff")
VERBS = ("Add a page on", "Correct a figure in", "Shorten", "Rewrite the start of", "Add an example to", "Review")
#: Unix time of the first commit; one an hour follows.
_FIRST, _HOUR = 1_760_000_000, 3600


def write_history(folder: Path) -> None:
    """Write the repository to *folder*; nothing happens where it is already.

    Needs nothing but the ``git`` program: no identity, no configuration, no network.
    """
    if folder.exists():
        return
    # Written beside it and then renamed, so that a half-written one is never taken for it.
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    _git(draft, "init", "--quiet")
    _git(draft, "fast-import", "--quiet", stdin=_commits())
    _git(draft, "symbolic-ref", "HEAD", "refs/heads/main")
    _git(draft, "reset", "--quiet", "--hard")
    draft.rename(folder)


def _commits() -> str:
    subjects = [f"{verb} {topic}" for verb in VERBS for topic in TOPICS]
    return "".join(_commit(number, subject) for number, subject in enumerate(subjects))


def _commit(number: int, subject: str) -> str:
    page = f"{subject}\n"
    return (
        "commit refs/heads/main\n"
        f"committer Archivist <archivist@example.com> {_FIRST + number * _HOUR} +0000\n"
        f"data {len(subject)}\n{subject}\n"
        f"M 100644 inline {subject.rsplit(maxsplit=1)[-1]}.txt\n"
        f"data {len(page)}\n{page}\n"
    )


def _git(folder: Path, *arguments: str, stdin: str = "") -> None:
    # Without what the user, the machine or a hook that we run in has set: it could change what comes out.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *arguments], cwd=folder, env=environment, input=stdin, text=True, check=True)
