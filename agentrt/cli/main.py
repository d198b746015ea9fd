"""The command ``agentrt``: its subcommands, and how they fail."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agentrt.cli import check, exits, init, look, run, send
from agentrt.cli.pictures import plain


class _Group(TyperGroup):
    """Ends a command that cannot do what it was asked to with a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except exits.Failure as failure:
            # What it quotes may come from anywhere; only its line breaks are ours.
            text = "\n".join(map(plain, str(failure).splitlines()))
            typer.echo(f"agentrt: {text}", err=True)
            raise typer.Exit(failure.code) from failure


app = typer.Typer(
    name="agentrt",
    cls=_Group,
    help="Run fleets of AI agents that stay alive.",
    epilog="\b\nExit codes:\n" + exits.table(),
    no_args_is_help=True,
    # A traceback is for mistakes of ours, and it shows no values: they may be secret.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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


for _command in (run.run, check.check, send.send, send.outcome, look.ps, look.tree, look.stop, init.init):
    app.command()(_command)
