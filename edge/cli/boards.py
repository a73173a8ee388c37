"""`edge boards`: what is known of boards, and which one this machine is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

import boards
from boards.board import Figure, PowerMode, Profile
from boards.detection import Detection
from boards.folders import OURS
from boards.tegra import Release
from edge.cli.options import BoardName
from edge.cli.output import output_options, print_json, print_table, remark

_LEGEND = "? is not confirmed: from memory, or assumed"
_GIB = 1 << 30


@click.group("boards", invoke_without_command=True)
@output_options
@click.pass_context
def command(context: click.Context, as_json: bool, quiet: bool) -> None:
    """List the boards that Edgewise knows: memory, bandwidth, what their GPUs compute, and JetPack.

    Files of your own in ~/.config/edge/boards add to them: docs/boards.md.

    \b
    Example:
      edge boards
      edge boards show jetson-orin-nano-super-8gb
      edge boards show
    """
    if context.invoked_subcommand is not None:
        return
    there = boards.catalogue()
    profiles = tuple(there.profiles.values())
    if as_json:
        print_json(
            {
                "boards": [profile_report(profile) for profile in profiles],
                "faults": [str(fault) for fault in there.faults.values()],
            }
        )
        return
    print_table(
        [("board", "memory", "GB/s", "SM", "computes", "watts", "JetPack"), *map(_row, profiles)],
        right=(1, 2, 3),
    )
    click.echo(f"\n{_LEGEND}; edge boards show NAME says where each figure is from")
    for profile in profiles:
        if profile.origin != OURS:
            click.echo(f"{profile.name} is yours: {profile.origin}")
    for fault in there.faults.values() if not quiet else ():
        remark(f"left out: {fault}")


@command.command("show")
@click.argument("name", metavar="[NAME]", type=BoardName(), required=False)
@output_options
def show_command(name: str | None, as_json: bool, quiet: bool) -> None:
    """Show all that is known of a board, and from where; without NAME, of this machine.

    Of this machine it says as well which file named it, what its files say, and where they contradict each other.

    \b
    Example:
      edge boards show jetson-agx-orin-64gb
      edge boards show --json | jq .detection.power_mode
    """
    found = boards.detect() if name is None else None
    profile = found.board if found else boards.profile(str(name))
    if as_json:
        here = {"detection": detection_report(found)} if found else {}
        print_json({"board": profile_report(profile)} | here)
        return
    _print_profile(profile)
    if found:
        _print_detection(found)


def profile_report(profile: Profile) -> dict[str, Any]:
    """A profile as `edge boards --json` prints it: each figure with its source, and whether it is confirmed."""
    return asdict(profile) | {
        "usable_bytes": profile.usable_bytes,
        "jetpacks": list(profile.jetpacks),
        "releases": [asdict(release) for release in profile.releases],
    }


def detection_report(found: Detection) -> dict[str, Any]:
    """What `edge boards show --json` prints of this machine, the board aside; sizes in bytes, degrees Celsius."""
    report = asdict(found)
    del report["board"]
    return report | {"engines": list(found.engines), "bandwidth_gb_s": found.bandwidth_gb_s}


def _row(profile: Profile) -> tuple[str, ...]:
    gpu = profile.precisions or profile.npu
    return (
        profile.name,
        _shown(profile.memory_gb, "{:g} GB"),
        _shown(profile.bandwidth_gb_s),
        _shown(profile.sm),
        f"{_shown(gpu)}{'' if profile.precisions else ' (NPU)'}" if gpu else "",
        _watts(profile.power_modes),
        " ".join(map(str, profile.jetpacks)),
    )


def _print_profile(profile: Profile) -> None:
    click.echo(f"{profile.name}: {profile.title}\n")
    figures: list[tuple[str, Figure[Any] | None, str]] = [
        ("memory", profile.memory_gb, "{:g} GB"),
        ("visible", profile.visible_gib, "{:g} GiB"),
        ("unified", profile.unified, "{}"),
        ("bandwidth", profile.bandwidth_gb_s, "{:g} GB/s"),
        ("reserve", profile.reserve_mib, "{:g} MiB"),
        ("CPU", profile.cpu, "{}"),
        ("SM", profile.sm, "{}"),
        ("computes", profile.precisions, "{}"),
        ("peak", profile.peak, "{:g}"),
        ("NPU computes", profile.npu, "{}"),
        ("NPU peak", profile.npu_peak, "{:g}"),
        ("system", profile.system, "{}"),
        ("L4T", profile.l4t, "{}"),
        ("engines", profile.engines, "{}"),
    ]
    rows = [(name, _shown(figure, form), figure.source) for name, figure, form in figures if figure]
    rows.insert(
        next(i for i, row in enumerate(rows) if row[0] == "reserve") + 1,
        ("for a model", f"{profile.usable_bytes / _GIB:.1f} GiB", "memory less the reserve"),
    )
    print_table([("figure", "value", "source"), *rows, *_mode_rows(profile.power_modes)])
    if profile.releases:
        click.echo()
        print_table([("JetPack", "L4T", "CUDA", "TensorRT", "source"), *map(_release_row, profile.releases)])
    lines = list(profile.notes)
    if "?" in "".join(value for _, value, _ in [*rows, *_mode_rows(profile.power_modes)]):
        lines.append(_LEGEND)
    if profile.origin != OURS:
        lines.append(f"from: {profile.origin}")
    if lines:
        click.echo("\n" + "\n".join(lines))


def _mode_rows(modes: Iterable[PowerMode]) -> Iterable[tuple[str, str, str]]:
    for mode in modes:
        figures: list[tuple[Figure[Any] | None, str]] = [
            (mode.watts, "{:g} W"),
            (mode.bandwidth_gb_s, "{:g} GB/s"),
            (mode.peak, "{:g}"),
        ]
        there = [(figure, form) for figure, form in figures if figure]
        sources = dict.fromkeys(figure.source for figure, _ in there)
        yield (
            f"mode {mode.name}",
            ", ".join(_shown(figure, form) for figure, form in there),
            "; ".join(sources),
        )


def _release_row(release: Release) -> tuple[str, ...]:
    tensorrt = release.tensorrt + "?" * (not release.confirmed)
    return release.jetpack, f"{release.l4t}.x", release.cuda, tensorrt, release.source


def _print_detection(found: Detection) -> None:
    click.echo()
    modes = ", ".join(found.power_modes)
    rows = [
        ("known by", found.decided_by or "nothing: no profile is of this machine"),
        ("memory", f"{found.memory / _GIB:.1f} GiB" if found.memory else "unknown"),
        ("memory limit", f"{found.memory_limit / _GIB:.1f} GiB, of a cgroup" if found.memory_limit else ""),
        ("bandwidth", f"{found.bandwidth_gb_s:g} GB/s" if found.bandwidth_gb_s else "not measured"),
        (
            "power mode",
            f"{found.power_mode or 'unknown'} of {modes}" if modes else "",
        ),
        ("JetPack", _jetpack(found)),
        ("engines", " ".join(found.engines)),
        ("temperature", _temperature(found)),
    ]
    print_table([("this machine", ""), *(row for row in rows if row[1])])
    if found.evidence:
        click.echo()
        print_table([("source", "says"), *((e.source, e.says) for e in found.evidence)])
    for conflict in found.conflicts:
        click.echo(f"\ncontradiction: {conflict.what}\n  believed: {conflict.wins}\n  since {conflict.why}")
    if found.unreadable:
        click.echo()
    for file in found.unreadable:
        click.echo(f"not usable: {file.path}: {file.why}")
    if found.notes:
        click.echo()
    for note in found.notes:
        click.echo(note)


def _jetpack(found: Detection) -> str:
    if not found.l4t:
        return ""
    if found.release is None:
        return f"unknown, L4T {found.l4t}"
    release = found.release
    return f"{release.jetpack}, L4T {found.l4t}, CUDA {release.cuda}, TensorRT {_release_row(release)[3]}"


def _temperature(found: Detection) -> str:
    if not found.temperatures:
        return ""
    zone, degrees = max(found.temperatures.items(), key=lambda item: item[1])
    return f"{degrees:.0f} °C, the highest of {len(found.temperatures)} ({zone})"


def _shown(figure: Figure[Any] | None, form: str = "") -> str:
    """A figure for people, with its mark."""
    if figure is None:
        return ""
    value = figure.value
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, tuple):
        text = " ".join(map(str, value))
    else:
        text = (form or ("{:g}" if isinstance(value, (int, float)) else "{}")).format(value)
    return f"{text}{f' {figure.unit}' if figure.unit else ''}{'' if figure.confirmed else '?'}"


def _watts(modes: Iterable[PowerMode]) -> str:
    figures = [mode.watts for mode in modes if mode.watts]
    if not figures:
        return ""
    ends = sorted({figure.value for figure in figures})
    mark = "" if all(figure.confirmed for figure in figures) else "?"
    return f"{ends[0]:g} to {ends[-1]:g}{mark}" if len(ends) > 1 else f"{ends[0]:g}{mark}"
