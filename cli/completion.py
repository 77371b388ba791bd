"""`completion`: what a shell has to load so that Tab completes verbs, options and files."""

import click
from click.shell_completion import get_completion_class

from scalple.cli.options import command

PROGRAM = "scalple-ingest"
VARIABLE = "_SCALPLE_INGEST_COMPLETE"
"""As click derives it from the program's name."""


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete this command.

    bash (from 4.4): to ~/.local/share/bash-completion/completions/scalple-ingest. zsh: to a file named
    _scalple-ingest in a folder of $fpath. fish: to ~/.config/fish/completions/scalple-ingest.fish.

    \b
    Example:
      scalple-ingest completion bash > ~/.local/share/bash-completion/completions/scalple-ingest
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source(), nl=False)
