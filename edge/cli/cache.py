"""`edge cache`: what conversations left on the disk."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click

from edge.cache.folder import default_folder, stored_blocks, stored_sessions, stored_tails
from edge.cache.listing import (
    StoredModel,
    faults,
    remove_model,
    remove_session,
    sessions,
    stored_models,
)
from edge.cli.options import SessionName
from edge.cli.output import output_options, print_json, print_table, remark, size
from edge.cli.progress import ByteBar
from edge.errors import InvalidArgument, RecordDamaged

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder.  [default: the user's cache folder, or EDGEWISE_CACHE]",
)


@click.group("cache")
def command() -> None:
    """List, check or remove what conversations left on the disk.

    That is the prefix cache, which saves reading a prompt again that begins as an earlier one did, and the sessions of
    edge chat --session. Both hold what was said, as tokens or text, readable for you only.
    """


@command.command("ls")
@store_option
@output_options
def list_command(store: Path | None, as_json: bool, quiet: bool) -> None:
    """List the models that have KV on the disk, and the named sessions.

    \b
    Example:
      edge cache ls
    """
    folder = store or default_folder()
    models, named = stored_models(folder), sessions(folder)
    nbytes = sum(model.nbytes for model in models) + sum(session.nbytes for session in named)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "bytes": nbytes,
                "models": [asdict(model) for model in models],
                "sessions": [asdict(session) for session in named],
            }
        )
        return
    if models:
        print_table(
            [
                ("model", "fingerprint", "blocks", "size", "last used"),
                *((m.name, m.fingerprint, str(m.blocks), size(m.nbytes), _ago(m.used)) for m in models),
            ],
            right=(2, 3),
        )
    if models and named:
        click.echo()
    if named:
        print_table(
            [
                ("session", "model", "messages", "tokens", "last used"),
                *(
                    (s.name, s.model, str(s.messages), str(s.tokens), "open now" if s.open else _ago(s.used))
                    for s in named
                ),
            ],
            right=(2, 3),
        )
    if not quiet:
        remark(f"{folder}: {size(nbytes)}" if models or named else f"{folder}: nothing")


@command.command("rm")
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--session",
    "names",
    multiple=True,
    type=SessionName(),
    metavar="NAME",
    help="A named session; may be given again.",
)
@click.option("--all", "everything", is_flag=True, help="Everything, sessions too.")
@store_option
@output_options
def remove_command(
    models: tuple[str, ...],
    names: tuple[str, ...],
    everything: bool,
    store: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Remove the KV of a model, by its name or fingerprint, or a named session.

    A process that uses it goes on, and reads again what is gone.

    \b
    Example:
      edge cache rm smollm2 --session shopping
      edge cache rm --all
    """
    if everything == bool(models or names):
        raise click.UsageError("name models or sessions to remove, or everything with --all")
    folder = store or default_folder()
    there, named = stored_models(folder), sessions(folder)
    chosen = there if everything else [m for name in models for m in _called(there, name)]
    if everything:
        names = tuple(session.name for session in named)
    for name in names:
        if name not in {session.name for session in named}:
            raise InvalidArgument(f"there is no session {name!r} in {folder}; see: edge cache ls")
    nbytes = sum(remove_session(folder, name) for name in names)
    nbytes += sum(remove_model(folder, model.fingerprint) for model in chosen)
    if as_json:
        print_json({"removed_bytes": nbytes, "models": len(chosen), "sessions": len(names)})
    elif not quiet:
        click.echo(f"removed {size(nbytes)}")


@command.command("verify")
@click.option("--remove", is_flag=True, help="Remove what is found.")
@store_option
@output_options
def verify_command(remove: bool, store: Path | None, as_json: bool, quiet: bool) -> None:
    """Check every file against its hash; exits with 1 where one is bad.

    A bad file is never loaded: without this it is found, and its tokens read again, when it is wanted.

    \b
    Example:
      edge cache verify --remove
    """
    folder = store or default_folder()
    files = [*stored_blocks(folder), *stored_sessions(folder), *stored_tails(folder)]
    total = sum(stored.nbytes for stored in files)
    with ByteBar("verify", total, quiet=quiet) as bar:
        found = list(faults(folder, bar.add))
    for path, _ in found if remove else ():
        path.unlink(missing_ok=True)
    if found and not remove:
        raise RecordDamaged(
            "\n".join([*(text for _, text in found), "remove them with: edge cache verify --remove"])
        )
    if as_json:
        print_json({"ok": not found, "files": len(files), "file_bytes": total, "removed": len(found)})
    elif not quiet:
        bad = f", {len(found)} bad ones removed" if found else ", all as they were written"
        click.echo(f"{folder}: {len(files)} files, {size(total)}{bad}")


def _called(models: list[StoredModel], name: str) -> list[StoredModel]:
    found = [model for model in models if name in (model.name, model.fingerprint)]
    if not found:
        raise InvalidArgument(f"no model {name!r} has KV on the disk; see: edge cache ls")
    return found


def _ago(used: float) -> str:
    age = max(0.0, time.time() - used)
    for limit, unit, name in ((3600, 60, "min"), (86400, 3600, "h")):
        if age < limit:
            return f"{age / unit:.0f} {name} ago"
    return f"{age / 86400:.0f} days ago"
