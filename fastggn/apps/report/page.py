"""HTML of one self-contained page: text, tables, and pictures as data.

All text of a user passes through `text`; no other function turns strings into markup.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from fastggn.runtime.version import __version__

# A browser that obeys this policy could not send a request even if the page held an address.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #5a5a5a;
        --line: #c9c9c9; --band: #f2f2f2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #17191c; --faint: #a8a8a8; --line: #4a4d52; --band: #22252a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 62rem; color: var(--ink);
       background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0.4rem 0; }
h2 { font-size: 1.25rem; margin: 2rem 0 0.6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; }
p { margin: 0.5rem 0; }
.faint { color: var(--faint); }
.lead { font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0; font-size: 0.94rem; }
caption { text-align: left; color: var(--faint); padding-bottom: 0.3rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.7rem 0.25rem 0.4rem;
         border-bottom: 1px solid var(--line); }
tbody th { font-weight: 600; width: 14rem; }
tbody tr:nth-child(even) { background: var(--band); }
table.numbers th, table.numbers td { text-align: right; white-space: nowrap; width: auto;
                                     font-variant-numeric: tabular-nums; }
table.numbers th:first-child, table.numbers td:first-child { text-align: left; }
figure { margin: 0.8rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figcaption { color: var(--faint); font-size: 0.94rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.7rem; margin: 0.5rem 0;
      background: var(--band); border: 1px solid var(--line); border-radius: 4px; }
code { font-family: ui-monospace, monospace; font-size: 0.94em; }
@media (max-width: 34rem) {
  body { padding: 0.7rem; }
  tbody th { width: 8rem; }
  figure.wide { overflow-x: auto; }
  figure.wide img { max-width: none; width: 40rem; }
}
@media print {
  :root { --ink: #000000; --paper: #ffffff; --faint: #333333; --line: #999999; --band: #ffffff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3 { break-after: avoid; }
  figure, tr, pre { break-inside: avoid; }
  figure img { max-height: 10cm; width: auto; }
}
"""


def text(value: object) -> str:
    """Escape a value for use between tags and in quotes; replace characters HTML cannot hold."""
    shown = "".join(
        letter if letter in "\n\t" or _allowed(ord(letter)) else "\N{REPLACEMENT CHARACTER}"
        for letter in str(value)
    )
    return html.escape(shown, quote=True)


def _allowed(point: int) -> bool:
    control = point < 0x20 or 0x7F <= point < 0xA0
    surrogate = 0xD800 <= point < 0xE000
    other = (point & 0xFFFE) == 0xFFFE or 0xFDD0 <= point < 0xFDF0  # never characters
    # Marks that reorder or hide their neighbours: a name could pass for another one.
    hidden = point in (0x200E, 0x200F) or 0x202A <= point < 0x202F or 0x2066 <= point < 0x206A
    return not (control or surrogate or other or hidden)


def paragraph(content: object, kind: str = "") -> str:
    """Return a paragraph."""
    return f"<p{_class(kind)}>{text(content)}</p>"


def code(content: object) -> str:
    """Return preformatted text."""
    return f"<pre><code>{text(content)}</code></pre>"


def section(title: str, parts: Iterable[str]) -> str:
    """Return a heading and the parts below it."""
    inner = "\n".join(parts)
    return f"<section>\n<h2>{text(title)}</h2>\n{inner}\n</section>"


def table(
    rows: Iterable[Sequence[object]], *, head: Sequence[object] = (), caption: str = ""
) -> str:
    """Return a table whose first cell in each row is a heading; with `head`, a table of numbers."""
    lines = [f'<div class="scroll"><table{_class("numbers" if head else "")}>']
    if caption:
        lines.append(f"<caption>{text(caption)}</caption>")
    if head:
        cells = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    lines.append("<tbody>")
    for first, *rest in rows:
        cells = "".join(f"<td>{text(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def figure(png: bytes, alternative: str, caption: str = "", *, wide: bool = False) -> str:
    """Return a picture that is part of the page."""
    data = base64.b64encode(png).decode("ascii")
    below = f"\n<figcaption>{text(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{text(alternative)}">'
    return f"<figure{_class('wide' if wide else '')}>\n{image}{below}\n</figure>"


def document(title: str, parts: Iterable[str]) -> bytes:
    """Return the whole page in UTF-8."""
    body = "\n".join(parts)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="fastggn {__version__}">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
    return page.encode("utf-8")


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
