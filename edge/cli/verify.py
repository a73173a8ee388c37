"""`edge verify`: check every file of an artifact against its hash."""

from __future__ import annotations

from pathlib import Path

import click

from edge.artifact import open_any
from edge.cli.options import artifact_argument
from edge.cli.output import output_options, print_json, size
from edge.cli.progress import ByteBar
from edge.errors import ArtifactCorrupt


@click.command("verify")
@artifact_argument
@output_options
def command(artifact: Path, as_json: bool, quiet: bool) -> None:
    """Check every file of an artifact against the hash in its manifest.

    Do so after copying an artifact to a board. Every bad file is named, with what to do; the exit code is then 1.

    \b
    Example:
      edge verify smollm2.edge
    """
    opened = open_any(artifact, check_files=False)
    files = opened.entries
    total = sum(entry.size for entry in files)
    with ByteBar("verify", total, quiet=quiet) as bar:
        faults = list(opened.faults(bar.add))
    if faults:
        raise ArtifactCorrupt("\n".join(faults))
    if as_json:
        print_json({"ok": True, "files": len(files), "file_bytes": total})
    elif not quiet:
        click.echo(f"{artifact}: {len(files)} files, {size(total)}, all as the manifest says")
