"""The colours of `hw_sim.picture`, for light and dark, and what each means."""

from typing import Final

from hw_sim.records import Fate
from hw_sim.timeline import Kind, Seen

_OF_FATE: Final = {
    Fate.RECEIVED: "received",
    Fate.CRC_ERROR: "damaged",
    Fate.COLLIDED: "collided",
    Fate.JAMMED: "jammed",
    Fate.BELOW_SENSITIVITY: "weak",
    Fate.DEAF: "deaf",
    Fate.NOT_MATCHED: "deaf",
    Fate.TRUNCATED: "weak",
}

# (class, slope of its chirps, words), row by row
LEGEND: Final = (
    ("frame received", "up", "received"),
    ("frame collided", "up", "lost in a collision"),
    ("frame damaged", "up", "heard damaged"),
    ("frame jammed", "up", "lost in noise"),
    ("frame weak", "up", "too weak, cut off"),
    ("frame deaf", "up", "receiver deaf"),
    ("frame downlink", "down", "downlink"),
    ("frame missed", "down", "downlink missed"),
    ("frame foreign", "up", "foreign network"),
    ("window", "", "receive window"),
    ("noise", "", "noise source"),
    ("listening", "", "a module listens"),
    ("blocked", "", "its mast sends"),
)

_LIGHT: Final = """--page:#ffffff;--ink:#1f2933;--soft:#5b6b7a;--lane:#f1f4f8;--rule:#dde4ec;--grid:#cbd5e0;
--received:#2b6cb0;--collided:#c53030;--damaged:#dd6b20;--jammed:#97266d;--weak:#a0aec0;--deaf:#b7791f;
--downlink:#2f855a;--missed:#9ae6b4;--foreign:#805ad5;--listening:#bee3f8;--blocked:#e2c08d;--noise:#b83280;--on:#ffffff"""
_DARK: Final = """--page:#12181f;--ink:#e6edf3;--soft:#93a4b5;--lane:#1b242e;--rule:#283442;--grid:#33414f;
--received:#4a9be8;--collided:#f56565;--damaged:#f6ad55;--jammed:#ed64a6;--weak:#5d6b7a;--deaf:#d69e2e;
--downlink:#48bb78;--missed:#276749;--foreign:#9f7aea;--listening:#23405c;--blocked:#7a5c22;--noise:#d53f8c;--on:#0b1117"""

STYLE: Final = f"""
svg{{{_LIGHT};font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}}
@media (prefers-color-scheme:dark){{svg{{{_DARK}}}}}
.page{{fill:var(--page)}} .lane{{fill:var(--lane)}} .rule{{stroke:var(--rule)}} .strip{{fill:var(--lane)}}
.grid{{stroke:var(--grid);stroke-dasharray:1 4}}
text{{fill:var(--ink);font-size:12px}} .title{{font-size:18px;font-weight:600}} .note{{fill:var(--soft);font-size:13px}}
.label{{fill:var(--soft)}} .strong{{fill:var(--ink);font-weight:600}}
.end{{text-anchor:end}} .middle{{text-anchor:middle}}
.inside{{fill:var(--on);font-size:10.5px;text-anchor:middle}} .inside.missed{{fill:var(--ink)}}
.received{{fill:var(--received)}} .collided{{fill:var(--collided)}} .damaged{{fill:var(--damaged)}}
.jammed{{fill:var(--jammed)}} .weak{{fill:var(--weak)}} .deaf{{fill:var(--deaf)}}
.downlink{{fill:var(--downlink)}} .missed{{fill:var(--missed)}} .foreign{{fill:var(--foreign)}}
.frame{{stroke:var(--page);stroke-width:.75}}
text.inside{{fill:var(--on)}}
.chirp-up{{fill:url(#up)}} .chirp-down{{fill:url(#down)}}
.window{{fill:none;stroke:var(--downlink);stroke-width:1.25}}
.noise{{fill:url(#speckle)}} .listening{{fill:var(--listening)}} .blocked{{fill:var(--blocked)}}
"""

DEFINITIONS: Final = (
    '<pattern id="up" width="7" height="16" patternUnits="userSpaceOnUse">'
    '<path d="M-1 16 8 0" stroke="#fff" stroke-opacity=".28" stroke-width="1.2"/></pattern>'
    '<pattern id="down" width="7" height="16" patternUnits="userSpaceOnUse">'
    '<path d="M-1 0 8 16" stroke="#fff" stroke-opacity=".28" stroke-width="1.2"/></pattern>'
    '<pattern id="speckle" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" style="fill:var(--noise)" fill-opacity=".16"/>'
    '<path d="M1 1h1M4 2h1M2 4h1M5 5h1" style="stroke:var(--noise)" stroke-opacity=".55"/></pattern>'
)


def class_of(seen: Seen) -> str:
    """The colour of a frame."""
    if seen.kind is Kind.FOREIGN:
        return "foreign"
    if seen.kind is Kind.DOWNLINK:
        return "downlink" if seen.fate is Fate.RECEIVED else "missed"
    return _OF_FATE[seen.fate]
