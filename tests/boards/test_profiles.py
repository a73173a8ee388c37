"""The profiles that come with Edgewise, and how one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

import boards
from boards.board import PRECISIONS, beyond, precisions_of
from boards.folders import OURS
from boards.schema import read_profiles
from boards.tegra import release_of
from edge.errors import EdgeError, ProfileError, UnknownBoard

FILES = sorted(Path(boards.__file__).parent.glob("*.toml"))
NAMES = {profile.name for profile in boards.profiles()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_a_profile(path: Path) -> None:
    for profile in read_profiles(path.read_text(encoding="utf-8"), path, OURS):
        assert profile.name.startswith(path.stem)
        assert profile.usable_bytes > 2 << 30
        assert profile.bandwidth_gb_s is not None
        if profile.precisions and profile.sm:
            assert beyond(profile.precisions.value, profile.sm.value) == ()
        assert (profile.match.model != ()) <= (profile.match.compatible != ())


def test_the_boards_there_are() -> None:
    """Those that a target may name: losing one breaks somebody's command."""
    assert {
        "dgx-spark",
        "generic-arm64",
        "generic-x86",
        "jetson-agx-orin-32gb",
        "jetson-agx-orin-64gb",
        "jetson-agx-thor",
        "jetson-agx-xavier-32gb",
        "jetson-nano",
        "jetson-orin-nano-4gb",
        "jetson-orin-nano-8gb",
        "jetson-orin-nano-super-8gb",
        "jetson-orin-nx-16gb",
        "jetson-orin-nx-8gb",
        "jetson-xavier-nx-16gb",
        "jetson-xavier-nx-8gb",
        "raspberry-pi-5-16gb",
        "raspberry-pi-5-4gb",
        "raspberry-pi-5-8gb",
        "rk3588-16gb",
        "rtx-3060",
        "rtx-4060",
        "rtx-4070",
        "rtx-4090",
        "rtx-5070",
        "rtx-5090",
    } <= NAMES


def test_figures_from_memory_say_so() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    lines = [
        line for line in text.splitlines() if "from memory" in line or "assumed" in line or "inferred" in line
    ]
    assert all("confirmed = false" in line for line in lines if "source =" in line)
    unconfirmed = [line for line in text.splitlines() if "confirmed = false" in line]
    assert all(any(word in line for word in ("from memory", "assumed", "inferred")) for line in unconfirmed)


@pytest.mark.parametrize(
    ("name", "bandwidth", "sm", "jetpacks", "tensorrts"),
    [
        ("jetson-nano", 25.6, "5.3", (4,), {"8.2"}),
        ("jetson-orin-nano-4gb", 34, "8.7", (5, 6, 7), {"8.5", "8.6", "10.3", "10.16"}),
        ("jetson-agx-orin-64gb", 204.8, "8.7", (5, 6, 7), {"8.5", "8.6", "10.3", "10.16"}),
        ("jetson-agx-thor", 273, "11.0", (7,), {"10.13", "10.16"}),
        ("dgx-spark", 273, "12.1", (), set()),
        ("rtx-5090", 1792, "12.0", (), set()),
    ],
)
def test_figures(
    name: str, bandwidth: float, sm: str, jetpacks: tuple[int, ...], tensorrts: set[str]
) -> None:
    profile = boards.profile(name)
    assert profile.bandwidth_gb_s is not None
    assert profile.sm is not None
    assert (profile.bandwidth_gb_s.value, profile.sm.value) == (bandwidth, sm)
    assert profile.jetpacks == jetpacks
    assert {release.tensorrt for release in profile.releases} == tensorrts


def test_old_tensorrt_is_no_engine() -> None:
    old = [p for p in boards.profiles() if p.sm and p.sm.value in ("5.3", "7.2")]
    assert old
    assert all("tensorrt" not in profile.engines.value for profile in old)


def test_what_a_model_may_take() -> None:
    seen = boards.profile("jetson-orin-nano-8gb")
    assert seen.usable_bytes == int(7.6 * (1 << 30)) - (768 << 20)
    assert boards.profile("rtx-4090").usable_bytes == 24 * 10**9 - (512 << 20)


@pytest.mark.parametrize(
    ("mode", "known"),
    [
        ("15W", "15W"),
        ("MODE_15W", "15W"),
        ("MODE_15W_6CORE", "15W"),
        ("mode_20w_4core", "20W"),
        ("5W", None),
        ("150W", None),
        ("", None),
        (None, None),
    ],
)
def test_modes_go_by_name(mode: str | None, known: str | None) -> None:
    found = boards.profile("jetson-xavier-nx-8gb").mode(mode)
    assert (found.name if found else None) == known


@pytest.mark.parametrize(
    ("version", "jetpack"),
    [
        ("32.7.4", "4.6"),
        ("35.4.1", "5"),
        ("36", "6.0"),
        ("36.3.0", "6.0"),
        ("36.4.3", "6.1 to 6.2.1"),
        ("36.5.0", "6.1 to 6.2.1"),
        ("38.2", "7.0"),
        ("38.4.0", "7.1"),
        ("39.2.0", "7.2"),
        ("28.2", None),
        ("40.1", None),
    ],
)
def test_releases_go_by_their_major_number(version: str, jetpack: str | None) -> None:
    release = release_of(version)
    assert (release.jetpack if release else None) == jetpack


@pytest.mark.parametrize(
    ("sm", "precisions"),
    [
        ("5.3", ()),
        ("7.5", ("fp16", "int8", "int4")),
        ("8.6", ("fp16", "bf16", "int8", "int4")),
        ("8.9", ("fp16", "bf16", "int8", "int4", "fp8")),
        ("12.0", PRECISIONS),
    ],
)
def test_precisions_by_compute_capability(sm: str, precisions: tuple[str, ...]) -> None:
    assert precisions_of(sm) == precisions


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("jetson-orin-nano", "did you mean jetson-orin-nano-4gb or jetson-orin-nano-8gb"),
        ("raspberry-pi-5", "did you mean raspberry-pi-5-4gb or raspberry-pi-5-8gb or raspberry-pi-5-16gb?"),
        ("Jetson Nano", "did you mean jetson-nano"),
        ("jetson_agx_orin_64gb", "did you mean jetson-agx-orin-64gb"),
        ("rtx4090", "did you mean rtx-4090"),
        ("toaster", "; all there are: edge boards"),
        ("../../etc/passwd", "; all there are: edge boards"),
        ("x" * 1000, "xxx...'; all there are"),
        ("", "there is no board ''"),
    ],
)
def test_an_unknown_board(name: str, near: str) -> None:
    with pytest.raises(UnknownBoard) as refused:
        boards.profile(name)
    assert near in str(refused.value)
    assert "edge boards" in str(refused.value)
    assert len(str(refused.value)) < 250
    assert isinstance(refused.value, EdgeError)


def test_the_users_own(config_folder: Path) -> None:
    text = (Path(boards.__file__).parent / "rtx-4090.toml").read_text()
    (config_folder / "my-card.toml").write_text(
        text.replace('title = "GeForce RTX 4090"', 'title = "My card"')
    )
    # One of ours is replaced, with all its sizes.
    sized = (Path(boards.__file__).parent / "raspberry-pi-5.toml").read_text()
    (config_folder / "raspberry-pi-5.toml").write_text(sized.replace("[4, 8, 16]", "2"))
    (config_folder / "notes.txt").write_text("not a profile")
    profile = boards.profile("my-card")
    assert (profile.title, profile.origin) == ("My card", str(config_folder / "my-card.toml"))
    names = {profile.name for profile in boards.profiles()}
    assert names == {*NAMES, "my-card", "raspberry-pi-5"} - {f"raspberry-pi-5-{n}gb" for n in (4, 8, 16)}


def test_a_wrong_file_of_the_users_spoils_no_other(config_folder: Path) -> None:
    (config_folder / "my-board.toml").write_text("title = 3\n")
    (config_folder / "rtx-4060.toml").mkdir()
    assert {profile.name for profile in boards.profiles()} == NAMES
    with pytest.raises(ProfileError, match=r"my-board.toml, line 1: title is 3"):
        boards.profile("my-board")
    with pytest.raises(ProfileError, match=r"my-board.toml, line 1"):
        boards.profile("my-board-8gb")
    with pytest.raises(ProfileError, match=r"rtx-4060.toml: it cannot be read: Is a directory"):
        boards.profile("rtx-4060")
    assert boards.profile("rtx-4070").name == "rtx-4070"
    assert len(boards.detect().notes) >= 2


@pytest.mark.parametrize("base", ["", "relative/path", "/nowhere/at/all"])
def test_without_a_folder_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", base)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        boards.user_folder() == (Path(base) if base[:1] == "/" else tmp_path / ".config") / "edge" / "boards"
    )
    assert {profile.name for profile in boards.profiles()} == NAMES


def test_the_example_in_the_documentation(config_folder: Path) -> None:
    page = (Path(boards.__file__).parents[1] / "docs/boards.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    (config_folder / "my-board.toml").write_text(example)
    assert boards.profile("my-board-8gb").title == "My board 8GB"
    (config_folder / "my-board.toml").write_text(example.replace("value = [4, 8]", "value = 0"))
    with pytest.raises(ProfileError) as refused:
        boards.profile("my-board")
    said = str(refused.value).replace(str(config_folder), "/home/me/.config/edge/boards")
    assert f"left out: {said}\n" in page
