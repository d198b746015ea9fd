"""The command ``agentrt``: its subcommands, and how they fail."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agentrt.cli import exits

#: Where each command is, a function, or an app with commands of its own; and its line in the list of all. A command is
#: imported when it is wanted, so that a small one starts at once and stays small.
COMMANDS = {
    "run": ("agentrt.cli.run:run", "Run a fleet until SIGINT (Ctrl-C), SIGTERM or SIGHUP."),
    "check": ("agentrt.cli.check:check", "Validate a configuration without running it."),
    "send": ("agentrt.cli.send:send", "Give an agent of a running fleet a task."),
    "outcome": ("agentrt.cli.send:outcome", "Say how a task ended, and print its answer."),
    "ps": ("agentrt.cli.look:ps", "Show the agents of a running fleet, and its bus servers."),
    "tree": ("agentrt.cli.look:tree", "Show the actors of a running fleet."),
    "stop": ("agentrt.cli.look:stop", "Stop a running fleet in order and wait for it."),
    "init": ("agentrt.cli.init:init", "Write a small fleet that runs as it stands."),
    "config": ("agentrt.cli.explain:app", "Look at the configuration: explain."),
    "export": ("agentrt.cli.export:app", "Write what other programs need: nats-permissions."),
    "mcp": ("agentrt.cli.mcp:app", "Keep tool servers alive, for any MCP client: guard, proxy, login."),
}


# A full disk is what an output may meet that is a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Group(TyperGroup):
    """Imports a command when it is asked for; ends one that cannot do what it should with a sentence and a code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            # One that belongs to a file has its name.
            if error.errno not in _FULL or error.filename is not None:
                raise
            typer.echo(f"agentrt: the output cannot be written: {(error.strerror or str(error)).lower()}", err=True)
            # What is still to be written fails again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(exits.ExitCode.SYSTEM)

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        # Without importing them: a list of commands is there at once, or nobody looks at it.
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def get_command(self, _ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(rich_markup_mode=None, context_settings=_SETTINGS, add_completion=False)
            alone.command(name)(found)
            found = alone
        return typer.main.get_command(found)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except exits.Failure as failure:
            from agentrt.cli.pictures import plain  # noqa: PLC0415 - it draws, which is more than most commands need.

            # What it quotes may come from anywhere; only its line breaks are ours.
            text = "\n".join(map(plain, str(failure).splitlines()))
            typer.echo(f"agentrt: {text}", err=True)
            raise typer.Exit(failure.code) from failure


_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="agentrt",
    cls=_Group,
    help="Run fleets of AI agents that stay alive.",
    epilog="\b\nExit codes:\n" + exits.table(),
    no_args_is_help=True,
    # A traceback is for mistakes of ours, and it shows no values: they may be secret.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - an option's callback.
    if wanted:
        typer.echo(f"agentrt {version('agentrt')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[  # noqa: FBT002 - an option.
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
