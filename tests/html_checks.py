"""A reader of HTML pages for tests: is it well formed, and does it hold any address?"""

import html.parser
import re

VOID = {"meta", "img", "br", "hr", "link", "input", "source", "col", "base", "embed", "area", "wbr"}
# Attributes that a browser may fetch, follow or run.
ADDRESSES = {
    "src", "srcset", "href", "data", "action", "formaction", "poster", "background", "cite",
    "manifest", "ping", "longdesc", "usemap", "codebase", "classid", "profile", "icon", "archive",
    "imagesrcset", "srcdoc", "style",
}  # fmt: skip
ACTIVE = {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio", "svg",
          "math", "template", "frame", "portal"}  # fmt: skip


class Page(html.parser.HTMLParser):
    """The elements of a page; `faults` lists what is wrong with it."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.faults, self.elements, self.stack = [], [], []
        self.text, self.styles, self.doctype = "", "", ""
        source = content.decode("utf-8") if isinstance(content, bytes) else content
        self.feed(source)
        self.close()
        if self.stack:
            self.faults.append(f"never closed: {self.stack}")
        for pattern in (r"url\s*\(", r"@import", r"@font-face", r"//", r"expression\s*\("):
            if re.search(pattern, self.styles):
                self.faults.append(f"{pattern} in the style sheet")

    def handle_decl(self, declaration):
        self.doctype = declaration

    def unknown_decl(self, data):
        self.faults.append(f"declaration {data[:30]}")

    def handle_pi(self, data):
        self.faults.append(f"processing instruction {data[:30]}")

    def handle_comment(self, data):
        self.faults.append(f"comment {data[:30]}")

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        if len(given) != len(attributes):
            self.faults.append(f"<{tag}> has an attribute twice")
        if tag in ACTIVE:
            self.faults.append(f"<{tag}>")
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.faults.append("a refresh")
        for name, value in given.items():
            inside = tag == "img" and name == "src" and re.fullmatch(
                r"data:image/png;base64,[A-Za-z0-9+/=]+", value or ""
            )  # fmt: skip
            if (
                name in ADDRESSES or ":" in name or name.startswith(("on", "xmlns"))
            ) and not inside:
                self.faults.append(f"<{tag} {name}={value!r:.60}>")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack[-1] != tag:
            self.faults.append(f"</{tag}> closes {self.stack[-1:]}")
        else:
            self.stack.pop()

    def handle_data(self, data):
        if "style" in self.stack:
            self.styles += data
        else:
            self.text += data

    def all(self, tag):
        """Return the attributes of all elements of a kind."""
        return [given for name, given in self.elements if name == tag]
