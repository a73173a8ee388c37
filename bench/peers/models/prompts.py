"""Token ids of an ordinary English text, for one model: python -m bench.peers.models.prompts ARTIFACT.edge OUT.json."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge import open_artifact
from edge.tokenizer import Tokenizer
from export.evaluate.text import HELD_OUT
from export.fit.text import help_text


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--tokens", default=20_000, show_default=True, help="How many token ids to write.")
def main(artifact: Path, out: Path, tokens: int) -> None:
    """Write the first tokens of Python's help, as the tokenizer of ARTIFACT has them, to OUT."""
    ids = Tokenizer(open_artifact(artifact).tokenizer_json).encode(help_text()[:HELD_OUT], False)
    if len(ids) < tokens:
        raise click.ClickException(f"--tokens is {tokens}, and the text has {len(ids)}; give fewer")
    out.write_text(json.dumps({"ids": ids[:tokens]}))


if __name__ == "__main__":
    main()
