"""Clocks, swap, trip points and counts of throttling, as files tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from boards.clocks import Clock, clocks
from boards.files import SystemFiles
from boards.swap import Swap, swaps
from boards.thermal import passive_trips, temperatures
from boards.throttling import throttle_counts, throttling
from tests.boards import sensors, trees
from tests.boards.trees import plant


def test_policies(tmp_path: Path) -> None:
    files = {
        **sensors.cpufreq("schedutil", 1000, 2000, policy=0),
        **sensors.cpufreq("powersave", 800, 800, policy=4),
        "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "<unknown>\n",
        "sys/devices/system/cpu/cpufreq/boost": "1\n",
    }
    assert clocks(SystemFiles(plant(tmp_path, files))) == (
        Clock("policy0", "schedutil", "tegra194", 750, 1000, 2000),
        Clock("policy4", "powersave", "tegra194", None, 800, 800),
    )
    assert clocks(SystemFiles(tmp_path / "none")) == ()


def test_swap(tmp_path: Path) -> None:
    plant(tmp_path, sensors.swaps(("/dev/zram0", 4, 1), ("/swap file", 8, 2), ("/swapfile", 8, 2)))
    assert swaps(tmp_path) == (Swap("/dev/zram0", 4096, 1024), Swap("/swapfile", 8192, 2048))
    assert [swap.zram for swap in swaps(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ((("active", 50000), ("passive", 99000), ("critical", 104500)), {"cpu": 99.0}),
        ((("passive", 95000), ("passive", 85000)), {"cpu": 85.0}),
        ((("passive", 0),), {}),
        ((("passive", -274000),), {}),
        ((("critical", 100000),), {}),
    ],
)
def test_trips(tmp_path: Path, points: tuple[tuple[str, int], ...], found: dict[str, float]) -> None:
    files = SystemFiles(plant(tmp_path, {**trees.zones(("cpu", "40000")), **sensors.trips(0, *points)}))
    assert passive_trips(files) == found
    assert throttling(files, {"cpu": 90.0}, passive_trips(files)).now == (
        ("cpu at 90 °C, its limit is 85",) if found == {"cpu": 85.0} else ()
    )


def test_zones_keep_their_names_when_one_is_off(tmp_path: Path) -> None:
    files = {**trees.zones(("gpu", ""), ("gpu", "2000")), **sensors.trips(1, ("passive", 80000))}
    found = SystemFiles(plant(tmp_path, files))
    assert (temperatures(found), passive_trips(found)) == ({"gpu #2": 2}, {"gpu #2": 80.0})


@pytest.mark.parametrize(
    "place",
    [
        "soc/soc:firmware",
        "soc:firmware",
        "soc@107c000000/soc@107c000000:firmware",
    ],
)
@pytest.mark.parametrize(
    ("text", "bits"), [("50005", (1, 1)), ("0x50005\n", (1, 1)), ("hot", None), ("", None)]
)
def test_a_raspberry_pi(tmp_path: Path, place: str, text: str, bits: tuple[int, int] | None) -> None:
    files = SystemFiles(plant(tmp_path, {f"sys/devices/platform/{place}/get_throttled": text}))
    counts = throttle_counts(files)
    if bits is None:
        assert (counts, throttling(files, {}, {}).watched) == ({}, ())
        return
    assert (counts["firmware: under-voltage"], counts["firmware: throttled"]) == bits
    assert throttling(files, {}, {}).now == ("firmware: under-voltage", "firmware: throttled")
