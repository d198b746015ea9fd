"""The command ``agentrt``: its subcommands, and how they fail."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agentrt.cli import exits

#: Where each command is: a function, or an app with commands of its own. A command is imported when it is wanted, so
#: that a small one starts at once and stays small.
_COMMANDS = {
    "run": "agentrt.cli.run:run",
    "check": "agentrt.cli.check:check",
    "send": "agentrt.cli.send:send",
    "outcome": "agentrt.cli.send:outcome",
    "ps": "agentrt.cli.look:ps",
    "tree": "agentrt.cli.look:tree",
    "stop": "agentrt.cli.look:stop",
    "init": "agentrt.cli.init:init",
    "config": "agentrt.cli.explain:app",
    "export": "agentrt.cli.export:app",
    "mcp": "agentrt.cli.mcp:app",
}


class _Group(TyperGroup):
    """Imports a command when it is asked for; ends one that cannot do what it should with a sentence and a code."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: Any, name: str) -> Any:
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name].partition(":")
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
