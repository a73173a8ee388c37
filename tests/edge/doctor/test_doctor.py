"""`edge doctor` of machines that are written as files: what is printed, to the letter."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import boards
from boards.files import SystemFiles
from edge.cli.main import main
from edge.doctor import checkup
from edge.doctor.finding import Finding
from edge.doctor.network import Network
from edge.doctor.power import power_mode
from edge.doctor.software import Software
from tests.boards import sensors, trees
from tests.boards.test_unreadable import GARBAGE, refusing
from tests.boards.trees import Files, plant
from tests.edge.doctor import softwares

GOLDEN = Path(__file__).with_name("golden")
SLOW = sensors.cpufreq("powersave", 1_500_000, 2_400_000, driver="cpufreq-dt")
LOW = {"sys/fs/cgroup/memory.max": f"{128 << 20}", "sys/fs/cgroup/memory.current": "0"}
IN_15W = {"var/lib/nvpmodel/status": "pmode:0000"}
RTX = {**trees.PC_WITH_RTX, **sensors.PC}
MACHINES: dict[str, tuple[Files, Software]] = {
    "orin-nano-15w": ({**trees.ORIN_NANO, **sensors.JETSON, **IN_15W}, softwares.JETPACK_6),
    "agx-orin-jetpack-5": (
        {
            **trees.AGX_ORIN,
            **sensors.ina3221(("VDD_GPU_SOC", 5000, 600), ("VDD_CPU_CV", 5000, 800)),
            **sensors.cpufreq("schedutil", 1_500_000, 2_201_600),
        },
        softwares.JETPACK_6,
    ),
    "thor": ({**trees.THOR, "var/lib/nvpmodel/status": "pmode:0000"}, softwares.JETPACK_6),
    "pi-5-weak-supply": (
        {**trees.PI_5, sensors.FIRMWARE: "50000", **SLOW},
        softwares.WITHOUT_KERNELS,
    ),
    "container-on-a-jetson": (trees.HIDDEN, softwares.JETPACK_6),
    "wsl": (trees.WSL, softwares.PC),
    "pc": ({**trees.PC, **sensors.PC}, softwares.PC),
    "pc-that-builds": (
        {**trees.PC, **sensors.PC},
        replace(softwares.PC, modules={"tensorrt_rtx": "1.7.1.116", "tensorrt": "10.16.1"}),
    ),
    "pc-with-rtx": (RTX, softwares.GPU),
    "nothing-installed": ({**trees.PC, **sensors.PC}, softwares.WITHOUT_ENGINE),
}  # fmt: skip
Look = Callable[..., tuple[int, str]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Look:
    """Runs `edge doctor` on a machine of these files; its exit code and what it prints."""
    cache = Finding(
        "cache", "ok", "/home/me/.cache/edgewise: 20.0 GB free, writes 90 MB/s, reads 95 MB/s (32 MiB, once)"
    )

    def run(files: Files, software: Software, *options: str) -> tuple[int, str]:
        monkeypatch.setattr(checkup, "cache_folder", lambda disk, progress: cache)
        root = plant(tmp_path / "root", files)
        monkeypatch.setattr(checkup, "checkup", partial(real, root, software=software))
        code = main(["doctor", *options])
        out, err = capsys.readouterr()
        assert err == ""
        return code, out

    real = checkup.checkup
    return run


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine(look: Look, name: str) -> None:
    code, out = look(*MACHINES[name])
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("EDGEWISE_WRITE_GOLDEN") == "1":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(out, encoding="utf-8")
    assert out == golden.read_text(encoding="utf-8")
    assert code == (1 if name == "nothing-installed" else 0)


def test_the_documentation_has_the_same(look: Look) -> None:
    page = (Path(checkup.__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    assert f"```text\n{look(*MACHINES['orin-nano-15w'])[1]}```" in page


def test_json(look: Look) -> None:
    code, out = look(*MACHINES["orin-nano-15w"], "--json")
    report = json.loads(out)
    assert (code, report["ok"]) == (0, True)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert {tuple(finding) for finding in report["findings"]} == {("name", "state", "text", "next", "facts")}
    assert found["power mode"]["facts"] == {
        "mode": "15W",
        "modes": ["15W", "25W", "MAXN_SUPER", "7W"],
        "fastest": "MAXN_SUPER",
        "raise": "sudo nvpmodel -m 2",
    }
    assert found["temperature"]["facts"]["degrees"]["cpu-thermal"] == 49.5
    assert found["temperature"]["facts"]["throttled"] is False
    assert found["swap"]["facts"]["zram"] == {"bytes": 6 * 650_000 * 1024, "used_bytes": 0}
    code, out = look(*MACHINES["nothing-installed"], "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


@pytest.mark.parametrize(
    ("names", "default", "status", "step"),
    [
        # The number is the one that this file gives the name.
        (("MAXN_SUPER", "10W", "15W"), 1, None, "sudo nvpmodel -m 0"),
        (("15W", "7W", "25W"), 0, None, "sudo nvpmodel -m 2"),
        (("10W", "MAXN", "MAXN_SUPER"), 0, "pmode:0001", "sudo nvpmodel -m 2"),
        (("10W", "20W"), 0, "pmode:0009", "the fastest, 20W: sudo nvpmodel -m 1"),
        (("10W", "20W"), 0, "quick", "the fastest, 20W: sudo nvpmodel -m 1"),
        (("10W", "20W"), 1, None, ""),
        (("MODE_A", "20W", "20W"), 0, None, "sudo nvpmodel -m 1"),
    ],
)
def test_the_command_that_raises_the_power_mode(
    tmp_path: Path, names: tuple[str, ...], default: int, status: str | None, step: str
) -> None:
    files = {**trees.ORIN_NANO, "etc/nvpmodel.conf": trees.conf(*names, default=default)}
    del files["var/lib/nvpmodel/status"]
    if status:
        files["var/lib/nvpmodel/status"] = status
    root = plant(tmp_path, files)
    found = power_mode(boards.detect(root), SystemFiles(root))
    assert (found.next, found.state) == (step, "note" if step else "ok")


def test_in_a_container_the_power_mode_is_raised_outside(tmp_path: Path) -> None:
    root = plant(tmp_path, {**trees.ORIN_NANO, **trees.LIMIT, **IN_15W})
    found = power_mode(boards.detect(root), SystemFiles(root))
    assert found.next == "sudo nvpmodel -m 2 (on the board itself, not in this container)"


@pytest.mark.parametrize(
    ("files", "name", "state", "text", "step"),
    [
        (
            {**trees.PC, **trees.LIMIT, **LOW},
            "memory",
            "problem",
            "128 MiB of 62.7 GiB can be had, cgroup limit 128 MiB; not even the smallest model runs below 192 MiB",
            "raise the cgroup's limit (docker run --memory, systemd MemoryMax)",
        ),
        (
            {**trees.PC, "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 90000 kB\n"},
            "memory",
            "problem",
            "88 MiB of 3.8 GiB can be had; not even the smallest model runs below 192 MiB",
            "end other programs; on a board without a screen: sudo systemctl isolate multi-user.target",
        ),
        (
            {**trees.PC, **sensors.swaps(("/swapfile", 40 << 20, 20 << 20), ("/dev/zram0", 1 << 20, 0))},
            "swap",
            "note",
            "zram 1.0 GiB, none used; swap 40.0 GiB, 20.0 GiB used; no plan counts on it",
            "much is swapped out: end other programs before a model is loaded",
        ),
        (
            {**trees.ORIN_NANO, **sensors.JETSON, **sensors.cooling(("gpu-throttle-alert", 1))},
            "temperature",
            "note",
            "50 °C (gpu-thermal); cpu-thermal slows down at 99 °C; throttled now: cooling device "
            "gpu-throttle-alert at 1",
            "let it cool: a fan, more air, or a lower power mode",
        ),
        (
            {**trees.PI_5, sensors.FIRMWARE: "10001"},
            "temperature",
            "note",
            "56 °C (cpu-thermal); throttled now: firmware: under-voltage",
            "use a stronger power supply",
        ),
        (
            {**trees.PC, **sensors.PC, **sensors.rapl("package-0", 0), "sys/class/powercap/intel-rapl:0/energy_uj": ""},
            "energy",
            "ok",
            "not measured here: RAPL: /sys/class/powercap/intel-rapl:0/energy_uj is no count of microjoules",
            "",
        ),
        (
            {**trees.ORIN_NANO, "etc/nv_tegra_release": trees.release("38.2.0")},
            "contradiction",
            "note",
            "/proc/device-tree/compatible names Jetson Orin Nano Super 8GB, which runs L4T 36, 39; "
            "/etc/nv_tegra_release says L4T 38.2.0; /proc/device-tree/compatible is believed",
            "what each file says: edge boards show",
        ),
        (
            {**trees.ORIN_NANO, "sys/class/thermal/thermal_zone1/temp": "hot"},
            "file",
            "note",
            "/sys/class/thermal/thermal_zone1/temp cannot be used: it says 'hot', not a temperature in thousandths "
            "of a degree",
            "",
        ),
    ],
)  # fmt: skip
def test_a_finding(tmp_path: Path, files: Files, name: str, state: str, text: str, step: str) -> None:
    [found] = [finding for finding in examined(plant(tmp_path, files)) if finding.name == name]
    assert (found.state, found.text, found.next) == (state, text, step)


@pytest.mark.parametrize(
    ("software", "name", "state", "text", "step"),
    [
        (
            replace(softwares.PC, environment={"EDGEWISE_ISA": "avx2"}),
            "instruction sets",
            "note",
            "since EDGEWISE_ISA says so",
            "unset EDGEWISE_ISA for the best",
        ),
        (
            replace(softwares.PC, engines={"cpu": replace(softwares.KERNELS, isa="plain")}),
            "instruction sets",
            "note",
            "so they are slow",
            "edge convert ARTIFACT -o OUT --engine onnxruntime",
        ),
        (
            replace(softwares.PC, python="3.9.2"),
            "versions",
            "problem",
            "Python 3.9.2 is older than 3.10",
            "pip install",
        ),
        (
            replace(softwares.PC, faults={"numpy": "numpy 1.20 is older than 1.26"}),
            "versions",
            "problem",
            "numpy 1.20 is older than 1.26 (edgewise 0.1.0",
            "pip install --upgrade 'edgewise[cpu]'",
        ),
        (
            replace(softwares.PC, network=Network(calls=["socket.connect ('10.0.0.1', 80)"], sockets=0)),
            "offline",
            "note",
            "the network was used: socket.connect ('10.0.0.1', 80)",
            "sitecustomize",
        ),
        (
            replace(softwares.PC, network=Network(sockets=2)),
            "offline",
            "note",
            "the network was used: 2 internet sockets are open",
            "LD_PRELOAD",
        ),
        (
            replace(softwares.PC, network=Network(sockets=0, reports=True, silenced=False)),
            "offline",
            "note",
            "ORT_DISABLE_TELEMETRY lets it",
            "unset ORT_DISABLE_TELEMETRY",
        ),
    ],
)
def test_what_is_installed(
    tmp_path: Path, software: Software, name: str, state: str, text: str, step: str
) -> None:
    [found] = [finding for finding in examined(plant(tmp_path, trees.PC), software) if finding.name == name]
    assert found.state == state
    assert text in found.text
    assert step in found.next


SYSTEM = {**trees.ORIN_NANO, **trees.LIMIT, **sensors.JETSON, **sensors.PC, sensors.FIRMWARE: "0"}
NAMES = sorted(set(SYSTEM) - {".dockerenv"})


@pytest.mark.parametrize("content", [b"", b"\0", GARBAGE, b"9" * 5000, "\u00b2\u00bd".encode()])
@pytest.mark.parametrize("name", NAMES)
def test_garbage_is_survived(tmp_path: Path, name: str, content: bytes) -> None:
    check_told(examined(plant(tmp_path, {**SYSTEM, name: content})))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=60), min_size=1))
def test_any_bytes_in_any_files(tmp_path: Path, files: Files) -> None:
    check_told(examined(plant(tmp_path, {**SYSTEM, **files})))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ENODEV])
def test_everything_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    root = plant(tmp_path, SYSTEM)
    monkeypatch.setattr(Path, "open", refusing(code, *NAMES))
    check_told(examined(root))


def test_energy_for_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path, {**trees.PC, **sensors.PC})
    monkeypatch.setattr(Path, "open", refusing(errno.EACCES, "energy_uj"))
    [found] = [finding for finding in examined(root) if finding.name == "energy"]
    assert (found.state, found.next) == (
        "note",
        "to measure until the next start: sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj",
    )


def test_a_profile_of_the_users_that_is_none(tmp_path: Path, config_folder: Path) -> None:
    (config_folder / "mine.toml").write_text('titel = "x"\n')
    [found] = [finding for finding in examined(plant(tmp_path, trees.PC)) if finding.name == "profile"]
    assert found.state == "note"
    assert found.text == f"left out: {config_folder}/mine.toml, line 1: titel is unknown"
    assert found.next.startswith("known here: title")


def test_an_empty_root(tmp_path: Path) -> None:
    check_told(examined(tmp_path))
    check_told(examined(tmp_path / "none"))


def examined(root: Path, software: Software = softwares.PC) -> list[Finding]:
    return list(checkup.checkup(root, software=software, disk=False))


def check_told(findings: list[Finding]) -> None:
    assert len(findings) >= 17
    for finding in findings:
        assert (finding.text + finding.next).isprintable(), finding
        assert finding.text
    json.dumps([asdict(finding) for finding in findings], allow_nan=False)
