"""Excerpts of the package's pages, cut from their text: nothing of them is imported or run.

An excerpt is a script that Python can run: what its definitions need at once stands above them, and
what their bodies would need when called is imported for the editor alone.
"""

from __future__ import annotations

import ast
import builtins
import io
import textwrap
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

# what the definitions of an excerpt need when it runs, in the place of the package's own
STAND_INS = {
    "kernel": "def kernel(function):                # in the package, it has Numba compile the "
              "function\n    return function",
    "contextmanager": "from contextlib import contextmanager",
    **dict.fromkeys(("Layer", "Latent", "Likelihood", "Model", "Buildable"), ""),
}


def page(name: str) -> str:
    """The text of a page, e.g. "layers" or "gradcheck.report"."""
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8")


def source_of(where: str) -> str:
    """The text of "module:function" or "module:Class.method", decorators included."""
    module, _, path = where.partition(":")
    text = page(module)
    first, last = _lines_of(_definition(text, path))
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : last])) + "\n"


def planted(text: str, path: str, old: str, new: str) -> str:
    """A page's text with `new` in the place of `old`, in the function or method `path` alone.

    Further lines of `new` take the first one's indent.
    Raises ValueError unless `old` is there exactly once.
    """
    lines = text.splitlines()
    first, last = _lines_of(_definition(text, path))
    here = [i for i in range(first - 1, last) if old in lines[i]]
    if len(here) != 1 or lines[here[0]].count(old) != 1:
        raise ValueError(f"{path} has {len(here)} lines with {old!r}, wanted one")
    line = lines[here[0]]
    indent = line[: len(line) - len(line.lstrip())]
    lines[here[0]] = line.replace(old, f"\n{indent}".join(part.strip() for part in new.split("\n")))
    return "\n".join(lines) + "\n"


def excerpt(text: str, names: list[str]) -> str:
    """Some functions, "f", and methods, "C.f", of a page's text, in the page's order.

    The comments are cut: some of them would say what a line should be.
    """
    text = _without_comments(text)
    lines, pieces = text.splitlines(), []
    for node in ast.parse(text).body:
        name = getattr(node, "name", None)
        if name in names:
            pieces.append(_text(lines, node))
            continue
        methods = [part for part in getattr(node, "body", [])
                   if f"{name}.{getattr(part, 'name', None)}" in names]
        if methods:
            head = "\n".join(lines[node.lineno - 1 : node.body[0].end_lineno])     # with docstring
            pieces.append("\n\n".join([head, *(_text(lines, part) for part in methods)]))
    return "\n\n\n".join(pieces) + "\n"


def preamble(code: str, module: str) -> str:
    """The lines above an excerpt that let it run, and let an editor know its names."""
    tree = ast.parse(code)
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined = {node.id for node in named if not isinstance(node.ctx, ast.Load)}
    defined |= {node.name for node in ast.walk(tree)
                if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    free = {node.id for node in named} - defined - set(vars(builtins)) - {"np"}
    bases = sorted(name for name in free if STAND_INS.get(name) == "")
    others = sorted(free - set(STAND_INS))
    parts = []
    if others:
        wanted = textwrap.fill(f"from minivae.{module} import ({', '.join(others)})", 96,
                               subsequent_indent=" " * len(f"from minivae.{module} import ("))
        parts.append("if TYPE_CHECKING:                    # for the editor: nothing below is "
                     "called\n" + textwrap.indent(wanted, "    "))
    if bases:
        parts.append(f"{' = '.join(bases)} = object")
    parts += [STAND_INS[name] for name in sorted(free & set(STAND_INS)) if STAND_INS[name]]
    return "\n\n".join(parts) + "\n"


def _definition(text: str, path: str) -> ast.AST:
    """The definition of "f" or "C.f" in a page's text."""
    body: list = ast.parse(text).body
    for name in path.split("."):
        node = next(part for part in body if getattr(part, "name", None) == name)
        body = node.body
    return node


def _lines_of(node) -> tuple[int, int]:
    """The first and the last line of a definition, decorators included, from 1."""
    return min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno


def _text(lines: list[str], node) -> str:
    first, last = _lines_of(node)
    return "\n".join(lines[first - 1 : last])


def _without_comments(text: str) -> str:
    """The text without its comments; a line that was only a comment goes."""
    lines: list[str | None] = list(text.splitlines())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() or None
    return "\n".join(line for line in lines if line is not None) + "\n"
