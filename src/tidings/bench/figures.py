"""Figures from numbers: percentiles, medians, and the machine they were taken on."""

import os
import platform
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import psutil


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of the sorted values do not exceed; 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one, the mean of the two middle ones, 0.0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def machine() -> str:
    """One line that a figure must always be read with."""
    cores, memory_gb = os.cpu_count(), psutil.virtual_memory().total / 1e9
    system = f"{platform.system()} {platform.release()}"
    return f"{_processor()}, {cores} cores, {memory_gb:.0f} GB, {system}, Python {platform.python_version()}"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
