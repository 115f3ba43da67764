"""Draw figures as SVG inside a page, in the page's colours and fonts."""

from __future__ import annotations

import io
import re
from typing import Any

from tfdistill.errors import optional

# Readable on white and on black; the markers of the plot and of the legend.
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#d946ef", "#8a8f98", "#06b6d4", "#84a616")
MARKERS = {
    "fp32": ("o", "●"),
    "fp16": ("^", "▲"),
    "dynamic_int8": ("s", "■"),
    "int8": ("v", "▼"),
    "int8_int16": ("P", "✚"),
    "weight_int8": ("D", "◆"),
}
OTHER_MARKER = ("p", "⬟")
INK, FAINT = "#0a0b0c", "#0d0e0f"  # placeholders for the page's own colours


def percent(axes: Any) -> None:
    """Label the y axis in percent: no share above 100 % or below 0, and no two ticks with the same label."""
    ticker = optional("matplotlib.ticker", "quickstart")
    low, high = axes.get_ylim()
    values = ticker.MaxNLocator(7, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high)
    shown = [float(value) for value in values if max(low, 0.0) <= value <= min(high, 1.0) + 1e-9]
    step = 100 * (values[1] - values[0])
    digits = next((digits for digits in range(4) if abs(step - round(step, digits)) < 1e-6), 4)
    axes.set_yticks(shown, [f"{100 * value:.{digits}f} %" for value in shown])
    # A little room for markers at the limits themselves.
    room = 0.04 * (high - low)
    axes.set_ylim(max(low, -room), min(high, 1.0 + room))


def plain_ticks(axes: Any) -> None:
    """Label a logarithmic x axis 1, 2, 5, 10, … instead of powers of ten, and a short one as if it were linear."""
    ticker = optional("matplotlib.ticker", "quickstart")
    low, high = axes.get_xlim()
    locator = ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,))
    if sum(low <= value <= high for value in locator.tick_values(low, high)) < 3:
        locator = ticker.MaxNLocator(5, steps=(1, 2, 2.5, 5, 10))
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def svg(draw: Any, salt: str, *, width: float = 4.7, height: float = 3.3) -> str:
    """Draw on axes and return the SVG.

    Args:
        draw: called with the axes.
        salt: makes the ids in the SVG differ from those of the page's other figures.
        width: in inches.
        height: in inches.
    """
    matplotlib = optional("matplotlib", "quickstart")
    figure_module = optional("matplotlib.figure", "quickstart")
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": 10,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with matplotlib.rc_context(style):
        figure = figure_module.Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font: (\d+)px [^;\"]*", r"font: \1px inherit; font-size: \1px; font-family: inherit", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
    return text.replace(INK, "currentColor").replace(FAINT, "var(--line)")
