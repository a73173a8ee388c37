"""A run under watch: fake files, a fake clock, and no thread but where one is meant."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boards.nvml import Reading
from edge.conditions import recorder as room
from edge.conditions.recorder import Recorder
from edge.conditions.words import condition_rows
from tests.boards import sensors, trees
from tests.boards.sensors import ina3221, rapl
from tests.boards.test_unreadable import refusing
from tests.boards.trees import Files, plant

ORIN = {**trees.ORIN_NANO, **sensors.JETSON}
MACHINE = {"title": "A board", "power_mode": "15W", "container": None}


class Watched:
    """A recorder whose files and clock are the test's."""

    def __init__(self, root: Path, files: Files, cards: tuple[Reading, ...] = ()) -> None:
        self.root, self.now, self.cards = plant(root, files), 100.0, cards
        self.recorder = Recorder(self.root, ask=lambda: self.cards, clock=lambda: self.now)
        self.recorder.look()

    def after(self, seconds: float, files: Mapping[str, str | None] | None = None) -> float:
        """A reading `seconds` later, with these files changed, or gone."""
        for name, text in (files or {}).items():
            if text is None:
                (self.root / name).unlink()
            else:
                plant(self.root, {name: text})
        self.now += seconds
        return self.recorder.sample()

    def ended(self) -> dict[str, Any]:
        self.recorder.look()
        return self.recorder.report()


def test_energy_of_the_rail_that_all_come_from(tmp_path: Path) -> None:
    run = Watched(tmp_path, ORIN)
    start = run.after(0)
    first = run.after(1)
    end = run.after(1, ina3221(("VDD_IN", 5000, 3000)))
    run.recorder.phases.add(start, first, end, 10, 4)
    [energy] = run.ended()["energy"]
    assert (energy["source"], energy["covers"]) == ("power monitor, VDD_IN", "the module")
    assert energy["prefill_joules"] == pytest.approx(5.016 * 1.5)
    assert energy["joules_per_prompt_token"] == pytest.approx(5.016 * 1.5 / 10)
    assert energy["decode_joules"] == pytest.approx((5.016 * 1.5 + 15) / 2)
    assert energy["joules_per_token"] == pytest.approx((5.016 * 1.5 + 15) / 8)
    assert energy["decode_watts"] == pytest.approx((5.016 * 1.5 + 15) / 2)
    assert energy["fault"] == ""


def test_where_no_rail_is_the_whole_the_sum_is_called_a_sum(tmp_path: Path) -> None:
    rails = {
        **ina3221(("VDD_GPU_SOC", 5000, 600), ("VDD_CPU_CV", 5000, 800), ("VIN_SYS_5V0", 5000, 1000)),
        **ina3221(("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 200), chip=2),
    }
    run = Watched(tmp_path, {**trees.AGX_ORIN, **rails})
    run.recorder.phases.add(100.0, 100.0, run.after(1), 0, 1)
    [energy] = run.ended()["energy"]
    assert energy["source"] == "power monitor, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO"
    assert "not known" in energy["covers"]
    assert energy["decode_joules"] == pytest.approx(13)
    assert energy["joules_per_prompt_token"] is None


def test_thor_measures_all_that_goes_in(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon5"
    run = Watched(tmp_path, {**trees.THOR, f"{chip}/name": "ina238", f"{chip}/power1_input": "40250000"})
    run.recorder.phases.add(100.0, 100.0, run.after(1), 0, 1)
    [energy] = run.ended()["energy"]
    assert (energy["covers"], energy["decode_watts"]) == ("the module and its carrier board", 40.25)


def test_rapl_counts_packages_and_memory_and_nothing_twice(tmp_path: Path) -> None:
    files = {
        **rapl("package-0", 999_000, most=1_000_000),
        **rapl("core", 5, zone="0:0"),
        **rapl("dram", 7_000, zone="0:1", most=1_000_000),
        **rapl("package-1", 10_000, zone="1"),
        **rapl("psys", 1, zone="2"),
    }
    mmio = {
        name.replace("intel-rapl:", "intel-rapl-mmio:"): text for name, text in rapl("package-0", 3).items()
    }
    run = Watched(tmp_path, {**trees.PC, **files, **mmio})
    power = "sys/class/powercap/intel-rapl:"
    end = run.after(
        1, {f"{power}0/energy_uj": "4000", f"{power}0:1/energy_uj": "8000", f"{power}1/energy_uj": "20000"}
    )
    run.recorder.phases.add(100.0, 100.0, end, 0, 2)
    [energy] = run.ended()["energy"]
    assert energy["source"] == "RAPL, package-0 + dram of 0 + package-1"
    assert energy["covers"] == "processor and memory"
    assert energy["decode_joules"] == pytest.approx(0.005 + 0.001 + 0.010)
    assert energy["joules_per_token"] == pytest.approx(0.008)


def test_rapl_for_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, {**trees.PC, **sensors.PC})
    monkeypatch.setattr(Path, "open", refusing(errno.EACCES, "energy_uj"))
    report = Watched(tmp_path, {}).ended()
    assert report["energy"] == []
    [missing] = report["energy_missing"]
    assert missing.startswith("RAPL: /sys/class/powercap/intel-rapl:0/energy_uj is for root only")
    assert missing.endswith("sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj")


@pytest.mark.parametrize("files", [trees.PC, trees.WSL, trees.HIDDEN, {}])
def test_a_machine_that_tells_nothing(tmp_path: Path, files: Files) -> None:
    quiet = {name: text for name, text in files.items() if "thermal" not in name}
    run = Watched(tmp_path, quiet)
    run.recorder.phases.add(100.0, 100.5, run.after(1), 3, 3)
    assert run.ended() == {
        "temperature_c": None,
        "throttled": None,
        "throttled_by": [],
        "throttling_watched": [],
        "energy": [],
        "energy_missing": ["the system shows no power monitor: no INA3221, no RAPL, no NVML"],
        "fault": "",
    }


def test_heat_and_no_throttling(tmp_path: Path) -> None:
    run = Watched(tmp_path, ORIN)
    plant(tmp_path, trees.zones(("cpu-thermal", "61000"), ("gpu-thermal", "55000"), ("tj-thermal", "61000")))
    run.recorder._look_at_heat()
    plant(tmp_path, trees.zones(("cpu-thermal", "52000"), ("gpu-thermal", "53500"), ("tj-thermal", "53000")))
    report = run.ended()
    assert report["temperature_c"] == {"start": 50.125, "end": 53.5, "highest": 61.0, "zone": "cpu-thermal"}
    assert (report["throttled"], report["throttled_by"]) == (False, [])
    assert report["throttling_watched"] == ["thermal zones", "cooling devices", "event counters"]


@pytest.mark.parametrize(
    ("files", "sign"),
    [
        (sensors.cooling(("pwm-fan", 3), ("thermal-cpufreq-0", 4)), "cooling device thermal-cpufreq-0 at 4"),
        (sensors.cooling(("f", 0), ("cpu-throttle-alert", 1)), "cooling device cpu-throttle-alert at 1"),
        ({"sys/class/thermal/thermal_zone0/temp": "99000"}, "cpu-thermal at 99 °C, its limit is 99"),
        (sensors.over_current(0, 2, 40), "instantaneous over-current (oc3_event_cnt): 3 more"),
        ({sensors.FIRMWARE: "10001"}, "firmware: under-voltage"),
    ],
)  # fmt: skip
def test_throttled(tmp_path: Path, files: Files, sign: str) -> None:
    run = Watched(tmp_path, ORIN)
    plant(tmp_path, files)
    report = run.ended()
    assert (report["throttled"], report["throttled_by"][0]) == (True, sign)


def test_what_was_before_the_run_is_not_of_it(tmp_path: Path) -> None:
    pi = {**trees.PI_5, sensors.FIRMWARE: "50000"}
    report = Watched(tmp_path / "pi", pi).ended()
    assert (report["throttled"], report["throttled_by"]) == (False, [])
    assert report["throttling_watched"] == ["the firmware's get_throttled", "event counters"]
    run = Watched(tmp_path / "again", pi)
    plant(run.root, {sensors.FIRMWARE: "70000"})  # for less time than between two looks
    assert run.ended()["throttled_by"] == ["firmware: clocks capped: 1 more"]


def test_counters_of_hot_cores(tmp_path: Path) -> None:
    run = Watched(tmp_path, {**trees.PC, **sensors.PC})
    name = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    plant(tmp_path, {name: "6\n"})
    assert run.ended()["throttled_by"] == ["hot cores (core_throttle_count): 2 more"]
    run = Watched(tmp_path, {})
    plant(tmp_path, {name: "0\n"})  # reset
    assert run.ended()["throttled"] is False


def test_a_fan_and_a_program_that_wants_to_be_told_are_no_throttling(tmp_path: Path) -> None:
    files = {
        **trees.zones(("x86_pkg_temp", "60000"), ("acpitz", "27800")),
        **sensors.trips(0, ("passive", 55000)),
        **sensors.trips(1, ("passive", 0), ("critical", 119000)),
        **sensors.cooling(("Fan", 1), ("intel_powerclamp", 1), ("Processor", 0)),
    }
    report = Watched(tmp_path, {**trees.PC, **files}).ended()
    assert (report["throttled"], report["throttling_watched"]) == (False, ["cooling devices"])


def test_a_card(tmp_path: Path) -> None:
    card = Reading("RTX 4090", 90.0, 1_000_000, 40.0, ())
    run = Watched(tmp_path, trees.PC, (card,))
    run.cards = (Reading("RTX 4090", 300.0, 1_200_000, 66.0, ("power limit",)),)
    run.recorder.phases.add(100.0, 100.0, run.after(1), 0, 10)
    report = run.ended()
    [energy] = report["energy"]
    assert (energy["source"], energy["joules_per_token"]) == ("NVML, RTX 4090", 20.0)
    assert report["temperature_c"] == {"start": 40.0, "end": 66.0, "highest": 66.0, "zone": "RTX 4090"}
    assert report["throttled_by"] == ["RTX 4090: power limit"]


def test_a_card_that_tells_watts_only_and_goes_away(tmp_path: Path) -> None:
    run = Watched(tmp_path, trees.PC, (Reading("GTX", 50.0, None, None, None),))
    middle = run.after(1)
    run.cards = ()
    run.recorder.phases.add(100.0, 100.0, middle, 0, 1)
    run.recorder.phases.add(middle, middle, run.after(1), 0, 1)
    [energy] = run.ended()["energy"]
    assert (energy["joules_per_token"], energy["fault"]) == (None, "there was no reading at its end")


def test_files_that_vanish_in_between(tmp_path: Path) -> None:
    run = Watched(tmp_path, ORIN)
    gone: dict[str, str | None] = dict.fromkeys(
        ("sys/class/hwmon/hwmon1/curr1_input", "sys/class/thermal/thermal_zone1/temp")
    )
    middle = run.after(0.5, gone)
    run.recorder._look_at_heat()
    back = run.after(0.5, {"sys/class/hwmon/hwmon1/curr1_input": "1500"})
    run.recorder.phases.add(100.0, middle, back, 1, 1)
    report = run.ended()
    assert report["energy"][0]["decode_joules"] == pytest.approx(5.016 * 1.5 / 2)
    assert report["temperature_c"]["end"] == 50.125
    run = Watched(tmp_path, {})
    end = run.after(0.5, {"sys/class/hwmon/hwmon1/in1_input": None})
    run.recorder.phases.add(100.0, 100.0, end, 1, 1)
    assert run.ended()["energy"][0]["fault"] == "there was no reading at its end"


SENSORS = [*sorted(name for name in sensors.JETSON if name.startswith("sys/")), sensors.FIRMWARE]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(SENSORS), st.binary(max_size=30), max_size=8),
    st.dictionaries(st.sampled_from(SENSORS), st.binary(max_size=30) | st.integers().map(str), min_size=1),
)
def test_any_bytes_in_any_files(tmp_path: Path, before: Files, after: Files) -> None:
    run = Watched(tmp_path, {**ORIN, sensors.FIRMWARE: "0", **before})
    plant(tmp_path, after)
    run.recorder.phases.add(100.0, run.after(0.1), run.after(0.2), 1, 1)
    report = run.ended()
    assert all(text.isprintable() for _, text in condition_rows(MACHINE | report))
    for energy in report["energy"]:
        assert energy["decode_joules"] is None or 0 <= energy["decode_joules"] < 1e4


def test_the_thread_reads_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PERIOD", 0.0)
    seen = threading.Event()
    count = 0

    def ask() -> tuple[Reading, ...]:
        nonlocal count
        count += 1
        if count > 40:
            seen.set()
        return (Reading("GTX", 50.0, None, 30.0, ()),)

    with Recorder(plant(tmp_path, ORIN), ask=ask) as recorder:
        start = recorder.mark()
        assert seen.wait(60)
        recorder.phases.add(start, start, recorder.mark(), 1, 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "conditions"]
    report = recorder.report()
    assert report["fault"] == ""
    assert report["energy"][0]["decode_watts"] == pytest.approx(5.016 * 1.5)
    assert report["energy"][1]["decode_watts"] == pytest.approx(50)


def test_what_fails_while_it_watches_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PERIOD", 0.0)
    ended = threading.Event()

    def ask() -> tuple[Reading, ...]:
        if threading.current_thread().name == "conditions":
            ended.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return ()

    with Recorder(plant(tmp_path, ORIN), ask=ask) as recorder:
        assert ended.wait(60)
    assert recorder.report()["fault"] == "watching ended early: [Errno 5] Input/output error"


def test_words(tmp_path: Path) -> None:
    run = Watched(tmp_path, ORIN)
    run.recorder.phases.add(100.0, 100.0, run.after(1), 0, 4)
    assert list(condition_rows(MACHINE | run.ended())) == [
        ("board", "A board, power mode 15W"),
        ("temperature", "50 °C before, 50 after, 50 at most (gpu-thermal)"),
        ("throttled", "no, by thermal zones, cooling devices, event counters"),
        ("energy", "1.88 J a token, 7.5 W while decoding (power monitor, VDD_IN: the module)"),
    ]
