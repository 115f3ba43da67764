"""`tfdistill doctor`: report what this machine and this installation can do."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from tfdistill.system.console import make_table, show_table
from tfdistill.system.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def doctor() -> None:
    """Show versions, devices and optional parts.

    Example: `tfdistill doctor`
    """
    import_tensorflow()
    import tensorflow as tf

    from tfdistill.system.reproducibility import versions

    rows = list(versions().items())
    rows += [(device.device_type, device.name) for device in tf.config.list_physical_devices()]
    for extra, missing in missing_by_extra().items():
        advice = f"missing {', '.join(missing)}: pip install 'tfdistill[{extra}]'"
        rows.append((f"[{extra}]", advice if missing else "installed"))
    show_table(make_table(("part", "state"), rows, title="tfdistill doctor", left=("state",)))


def missing_by_extra(package: str = "tfdistill") -> dict[str, list[str]]:
    """Return the requirements of each extra that are not met here, from the metadata of the package.

    Args:
        package: an installed distribution.

    Returns:
        For each extra the requirements, such as "pyarrow>=20", that are not installed or have another version.
    """
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in metadata.requires(package) or ()]
    extras = metadata.metadata(package).get_all("Provides-Extra") or []
    return {
        extra: [
            f"{each.name}{each.specifier}" for each in requirements if _belongs_to(each, extra) and not _is_met(each)
        ]
        for extra in extras
    }


def _belongs_to(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
