"""A docstring as reStructuredText: its formulas as they stand, its sections as napoleon has them."""

import inspect
import re

from sphinx.ext.napoleon import Config, NumpyDocstring

HEADINGS = ("Parameters", "Attributes", "Returns", "Raises", "Yields", "References", "Notes")


def as_rst(lines: list[str]) -> list[str]:
    """The lines with every sign that reStructuredText would take for markup made harmless.

    An indented block after an empty line is a formula or a drawing: it is kept as it stands.
    """
    done, inside, in_section = [], False, False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        in_section = in_section or (line in HEADINGS and set(lines[i + 1]) == {"-"})
        if indented and not in_section and not inside and (i == 0 or not lines[i - 1].strip()):
            done += ["::", ""]
            inside = True
        inside = inside and (indented or not line.strip())
        done.append(line if inside else _without_markup(line))
    return done


def _without_markup(line: str) -> str:
    """The line with * and | and a last _ escaped, but not between backticks."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"[*|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)


def of_source(docstring: str) -> list[str]:
    """A docstring as it stands in a file, as lines of reStructuredText."""
    lines = as_rst(inspect.cleandoc(docstring).splitlines())
    return str(NumpyDocstring(lines, Config(napoleon_google_docstring=False))).splitlines()
