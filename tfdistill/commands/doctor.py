"""`tfdistill doctor`: report what this machine and this installation can do. Never imports TensorFlow in this process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tfdistill.system.console import make_table, readable, show, show_table

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_ASK_TENSORFLOW = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
_PATIENCE = 120  # seconds until TensorFlow has started in another process
_SHOWN = 2  # missing requirements


def doctor() -> None:
    """Show versions, what this machine has, and optional parts.

    Example: `tfdistill doctor`
    """
    from tfdistill.system.reproducibility import versions

    rows, commands = [*versions().items(), *_machine()], list[str]()
    for extra, missing in missing_by_extra().items():
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        rows.append((f"[{extra}]", f"missing {', '.join(missing[:_SHOWN])}{more}" if missing else "installed"))
        if missing:
            commands.append(f"pip install 'tfdistill[{extra}]'")
    show_table(make_table(("part", "state"), rows, title="tfdistill doctor", left=("state",)))
    show(*commands)  # below the table, which would break them


def _machine() -> list[tuple[str, str]]:
    """Return what trainings and measurements depend on: processor, memory, GPU, disk and the tool for phones."""
    from tfdistill.cache.folder import cache_directory
    from tfdistill.export.bench.host import machine

    this, cache = machine(), cache_directory()
    int8 = {True: "yes", False: "no: dynamic int8 saves more size than time here", None: "unknown"}
    above = next(each for each in (cache, *cache.parents) if each.exists())
    return [
        ("CPU", f"{this['processor']}, {this['cores']} cores"),
        ("int8 dot products", int8[this["int8_dot_product"]]),
        ("memory", f"{this['memory_gb']} GB"),
        ("GPU", gpu()),
        ("cache folder", f"{cache}, {readable(shutil.disk_usage(above).free)} free"),
        ("adb", shutil.which("adb") or "not found: `bench --adb` needs it"),
    ]


def gpu(devices: Path = Path("/dev")) -> str:
    """Say whether TensorFlow sees an NVIDIA GPU, and what is missing if not.

    TensorFlow is started in another process, and only where there is a GPU.
    """
    if not any(devices.glob("nvidia[0-9]*")):
        driver = shutil.which("nvidia-smi")
        return "no NVIDIA GPU" + (f", though {driver} is installed" if driver else "")
    command = [sys.executable, "-c", _ASK_TENSORFLOW]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"TensorFlow has not started within {_PATIENCE} s"
    count = asked.stdout.strip()
    if asked.returncode or not count.isdecimal():
        return "TensorFlow does not start: run `python -c 'import tensorflow'`"
    if int(count):
        return f"TensorFlow sees {count}"
    missing = missing_by_extra().get("gpu", [])
    if missing:
        return f"there is one, but {len(missing)} CUDA libraries are missing: pip install 'tfdistill[gpu]'"
    return "there is one, but TensorFlow does not see it: compare the driver (`nvidia-smi`) with TensorFlow's version of CUDA"


def missing_by_extra(package: str = "tfdistill") -> dict[str, list[str]]:
    """Return the requirements of each extra that are not met here, from the metadata of the package.

    Args:
        package: an installed distribution.

    Returns:
        For each extra the requirements, such as "pyarrow>=20", that are not installed or have another version; those of a
        requirement with extras of its own, such as tensorflow[and-cuda], are among them.
    """
    extras = metadata.metadata(package).get_all("Provides-Extra") or []
    return {extra: _missing(package, extra) for extra in extras}


def _missing(package: str, extra: str) -> list[str]:
    from packaging.requirements import Requirement

    missing = []
    for each in map(Requirement, metadata.requires(package) or ()):
        if _belongs_to(each, extra):
            if not _is_met(each):
                missing.append(f"{each.name}{each.specifier}")
            else:
                missing += [name for own in each.extras for name in _missing(each.name, own)]
    return missing


def _belongs_to(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
