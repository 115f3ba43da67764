"""Write scores in one way everywhere: shares and correlations in percent, losses and squared errors as numbers."""

from __future__ import annotations


def percent(share: float) -> str:
    """Return a share in percent, such as "36.7 %"."""
    return f"{100 * share:.1f} %"


def shown(metric: str, value: float) -> str:
    """Return the value of a metric, called as in run.json."""
    return f"{value:.4f}" if any(part in metric for part in ("loss", "mse")) else percent(value)
