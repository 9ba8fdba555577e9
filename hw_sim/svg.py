"""As much SVG as a diagram needs: shapes and words with classes, and one style sheet that knows light and dark."""

from collections.abc import Mapping
from html import escape
from typing import Final

Value = str | float


class Svg:
    """A drawing under construction; coordinates in pixels from the top left."""

    def __init__(self, width: float, height: float, style: str, title: str) -> None:
        self._size = width, height
        self._style = style
        self._title = title
        self._definitions: list[str] = []
        self._parts: list[str] = []

    def define(self, markup: str) -> None:
        """A pattern, marker or clip path, as it stands."""
        self._definitions.append(markup)

    def rect(self, x: float, y: float, width: float, height: float, cls: str, **more: Value) -> None:
        """A rectangle; `tip` is shown under the pointer."""
        self._shape("rect", {"x": x, "y": y, "width": width, "height": height}, cls, more)

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str) -> None:
        """A stroke."""
        self._shape("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, cls, {})

    def path(self, d: str, cls: str, **more: Value) -> None:
        """An outline in SVG's path language."""
        self._shape("path", {"d": d}, cls, more)

    def text(self, x: float, y: float, words: str, cls: str) -> None:
        """Words; their anchor is a matter of style."""
        self._parts.append(f'<text x="{_plain(x)}" y="{_plain(y)}" class="{cls}">{escape(words)}</text>')

    def __str__(self) -> str:
        width, height = (_plain(side) for side in self._size)
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                f'width="{width}" height="{height}" role="img">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{self._style}</style>",
                f"<defs>{''.join(self._definitions)}</defs>",
                *self._parts,
                "</svg>\n",
            )
        )

    def _shape(self, tag: str, place: Mapping[str, Value], cls: str, more: Mapping[str, Value]) -> None:
        tip = more.get("tip")
        attributes = "".join(
            f' {name}="{_plain(value)}"'
            for name, value in {**place, **{k: v for k, v in more.items() if k != "tip"}}.items()
        )
        inner = f"><title>{escape(str(tip))}</title></{tag}>" if tip else "/>"
        self._parts.append(f'<{tag}{attributes} class="{cls}"{inner}')


_DECIMALS: Final = 2


def _plain(value: Value) -> str:
    """A number as short as it can be; a string as an attribute."""
    if isinstance(value, str):
        return escape(value, quote=True)
    return f"{round(value, _DECIMALS):g}" if abs(value) < 1e5 else f"{value:.1f}"
