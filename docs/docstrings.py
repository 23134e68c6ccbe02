"""A docstring as reStructuredText: its formulas as they stand, its sections as napoleon's."""

import inspect
import re

from sphinx.ext.napoleon import Config, NumpyDocstring

HEADINGS = ("Parameters", "Attributes", "Returns", "Raises", "Yields", "References", "Notes")


# "mu, logvar : (B, Z)" on a line of its own
FIELD = re.compile(r"^[\w, ]+ : ")


def as_rst(lines: list[str]) -> list[str]:
    """The lines with every sign that reStructuredText would take for markup made harmless.

    An indented block after an empty line is a formula or a drawing: it is kept as it stands.
    Lines such as "mu, logvar : (B, Z)" become a list.
    """
    done, block, in_section = [], "", False
    for i, line in enumerate(lines):
        indented, after_empty = line.startswith("    "), i == 0 or not lines[i - 1].strip()
        in_section = in_section or (line in HEADINGS and set(lines[i + 1]) == {"-"})
        if in_section:
            block = ""
        elif indented and after_empty and block != "formula":
            done += ["::", ""]
            block = "formula"
        elif FIELD.match(line) and i > 0:
            done += [] if block == "list" else [""]
            block = "list"
        elif line.strip() and not indented:
            done += [""] if block == "list" else []
            block = ""
        done.append(_line(line, block))
    return done


def _line(line: str, block: str) -> str:
    """One line of a formula, of a list, or of neither."""
    if block == "formula" or not line:
        return line
    if block == "list":
        sign = "  " if line.startswith("    ") else "- "
        return sign + _without_markup(line.strip())
    return _without_markup(line)


def _without_markup(line: str) -> str:
    """The line with * and | and a last _ escaped, but not between backticks."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"[*|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)


def of_source(docstring: str) -> list[str]:
    """A docstring as it stands in a file, as lines of reStructuredText."""
    lines = as_rst(inspect.cleandoc(docstring).splitlines())
    return str(NumpyDocstring(lines, Config(napoleon_google_docstring=False))).splitlines()
