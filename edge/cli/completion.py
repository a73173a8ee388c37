"""`edge completion`: the script that completes `edge` in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edge.cli.output import output_options, print_json
from edge.errors import InvalidArgument

INSTALL = {
    "bash": "edge completion bash > ~/.local/share/bash-completion/completions/edge",
    "zsh": "edge completion zsh > ~/.edge-completion.zsh && echo 'source ~/.edge-completion.zsh' >> ~/.zshrc",
    "fish": "edge completion fish > ~/.config/fish/completions/edge.fish",
}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(INSTALL)))
@output_options
def command(shell: str, as_json: bool, quiet: bool) -> None:
    """Print the script that completes subcommands, options and *.edge folders in your shell.

    \b
    Example, for this shell and for every new one:
      source <(edge completion bash)
      edge completion bash > ~/.local/share/bash-completion/completions/edge
    """
    from edge.cli.main import COMPLETE_VARIABLE, cli

    found = get_completion_class(shell)
    if found is None:
        raise InvalidArgument(
            f"the installed click knows no shell {shell!r}; upgrade it: pip install -U click"
        )
    script = found(cli, {}, "edge", COMPLETE_VARIABLE).source().strip() + "\n"
    if as_json:
        print_json({"shell": shell, "install": INSTALL[shell], "script": script})
        return
    if not quiet:
        click.echo(f"# Install with: {INSTALL[shell]}")
    click.echo(script, nl=False)
