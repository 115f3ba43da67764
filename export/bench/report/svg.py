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
    """Label the y axis in percent."""
    ticker = optional("matplotlib.ticker", "quickstart")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0 if high - low > 0.04 else 1))


def plain_ticks(axes: Any) -> None:
    """Label the x axis 1, 2, 5, 10, … instead of powers of ten."""
    ticker = optional("matplotlib.ticker", "quickstart")
    low, high = axes.get_xlim()
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
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
