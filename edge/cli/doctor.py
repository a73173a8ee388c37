"""`edge doctor`: what this machine is like, and whether artifacts can be loaded and asked on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edge.cli.exits import FAILED
from edge.cli.output import output_options, print_json
from edge.cli.progress import ByteBar

if TYPE_CHECKING:
    from edge.doctor.finding import Finding


@click.command("doctor")
@click.option(
    "--no-disk", is_flag=True, help="Do not measure the disk of the cache: 32 MiB, two seconds at most."
)
@output_options
@click.pass_context
def command(context: click.Context, no_disk: bool, as_json: bool, quiet: bool) -> None:
    """Show what this machine is like for Edgewise, and what to do about what is not right.

    Board, system, power mode, clocks, heat, memory, disk, engines, versions, and whether a run stays offline. Each
    line is ok, a note (all works), or a problem: then no artifact can be loaded and asked here, and the exit code is 1.

    \b
    Example:
      edge doctor
      edge doctor --json | jq -r '.findings[] | select(.state != "ok") | .next'
    """
    from edge.doctor import checkup
    from edge.doctor.disk import MOST_BYTES

    with ByteBar("disk", 2 * MOST_BYTES, quiet=quiet or no_disk) as bar:
        findings = list(checkup.checkup(disk=not no_disk, progress=bar.add))
    problems = [finding for finding in findings if finding.state == "problem"]
    if as_json:
        print_json({"ok": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
        notes = sum(finding.state == "note" for finding in findings)
        click.echo(f"\n{_verdict(len(problems), notes)}")
    if problems:
        context.exit(FAILED)


def _print(findings: Sequence[Finding]) -> None:
    states, names = (max(len(getattr(finding, part)) for finding in findings) for part in ("state", "name"))
    for finding in findings:
        click.echo(f"{finding.state:{states}}  {finding.name:{names}}  {finding.text}")
        if finding.next:
            click.echo(f"{'':{states}}  {'':{names}}  -> {finding.next}")


def _verdict(problems: int, notes: int) -> str:
    noted = f"; {notes} note{'s' * (notes != 1)}" if notes else ""
    if not problems:
        return f"artifacts can be loaded and asked here{noted}"
    return f"no artifact can be loaded and asked here: {problems} problem{'s' * (problems != 1)}{noted}"
