"""What a machine's sensors say, as files: written by hand from what such boards are known to show."""

from __future__ import annotations

from tests.boards.trees import Files


def ina3221(*rails: tuple[str, int, int], chip: int = 1) -> Files:
    """An INA3221 with up to three rails: (label, millivolts, milliamperes)."""
    folder = f"sys/class/hwmon/hwmon{chip}"
    files = {f"{folder}/name": "ina3221\n", f"{folder}/in7_label": "sum of shunt voltages\n"}
    for i, (label, millivolts, milliamperes) in enumerate(rails, start=1):
        files[f"{folder}/in{i}_label"] = f"{label}\n"
        files[f"{folder}/in{i}_input"] = f"{millivolts}\n"
        files[f"{folder}/curr{i}_input"] = f"{milliamperes}\n"
    return files


def rapl(name: str, microjoules: int, zone: str = "0", most: int = 262_143_328_850) -> Files:
    folder = f"sys/class/powercap/intel-rapl:{zone}"
    return {
        f"{folder}/name": f"{name}\n",
        f"{folder}/energy_uj": f"{microjoules}\n",
        f"{folder}/max_energy_range_uj": f"{most}\n",
    }


def cooling(*devices: tuple[str, int]) -> Files:
    files: dict[str, str] = {}
    for i, (kind, state) in enumerate(devices):
        files[f"sys/class/thermal/cooling_device{i}/type"] = f"{kind}\n"
        files[f"sys/class/thermal/cooling_device{i}/cur_state"] = f"{state}\n"
    return files


def trips(zone: int, *points: tuple[str, int]) -> Files:
    """Trip points of a thermal zone: (type, thousandths of a degree)."""
    files: dict[str, str] = {}
    for i, (kind, value) in enumerate(points):
        files[f"sys/class/thermal/thermal_zone{zone}/trip_point_{i}_type"] = f"{kind}\n"
        files[f"sys/class/thermal/thermal_zone{zone}/trip_point_{i}_temp"] = f"{value}\n"
    return files


def over_current(*counts: int, chip: int = 3) -> Files:
    folder = f"sys/class/hwmon/hwmon{chip}"
    return {
        f"{folder}/name": "soctherm_oc\n",
        **{f"{folder}/oc{i}_event_cnt": f"{count}\n" for i, count in enumerate(counts, start=1)},
    }


def cpufreq(governor: str, allowed: int, highest: int, policy: int = 0, driver: str = "tegra194") -> Files:
    folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
    return {
        f"{folder}/scaling_governor": f"{governor}\n",
        f"{folder}/scaling_driver": f"{driver}\n",
        f"{folder}/scaling_cur_freq": f"{allowed * 3 // 4}\n",
        f"{folder}/scaling_max_freq": f"{allowed}\n",
        f"{folder}/cpuinfo_max_freq": f"{highest}\n",
    }


def swaps(*places: tuple[str, int, int]) -> Files:
    """/proc/swaps: (name, KiB, KiB used)."""
    lines = [f"{name}  partition\t{size}\t\t{used}\t\t5" for name, size, used in places]
    return {"proc/swaps": "\n".join(["Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority", *lines]) + "\n"}


FIRMWARE = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"

JETSON: Files = {
    **ina3221(("VDD_IN", 5016, 1500), ("VDD_CPU_GPU_CV", 5008, 400), ("VDD_SOC", 5008, 300)),
    **over_current(0, 2, 37),
    **cooling(("pwm-fan", 2), ("thermal-cpufreq-0", 0), ("cpu-throttle-alert", 0)),
    **trips(0, ("active", 50000), ("passive", 99000), ("critical", 104500)),
    **cpufreq("schedutil", 1_728_000, 1_728_000),
    **swaps(*((f"/dev/zram{i}", 650_000, 0) for i in range(6))),
}
PC: Files = {
    **rapl("package-0", 1_000_000),
    **rapl("core", 600_000, zone="0:0"),
    **rapl("psys", 9_000_000, zone="1"),
    **cpufreq("powersave", 5_200_000, 5_200_000, driver="intel_pstate"),
    **swaps(("/swapfile", 8_388_604, 1024)),
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "9\n",
}
