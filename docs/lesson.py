"""The lesson's pages: every line of a file in its order, and each docstring beside its code."""

import ast
import re
from pathlib import Path

import docstrings

ROOT = Path(__file__).parents[1]
# | 0 | [minivae/first.py](minivae/first.py) | 110 | all of it, small |
ROW = re.compile(r"^\| (\w+) \| \[minivae/(\w+)\.py\]\(\S+\) \| \d+ \| (.+) \|$", re.M)


def reading_order() -> list[tuple[str, str, str]]:
    """(page, file, what it shows) for each row of the README's table."""
    return ROW.findall((ROOT / "README.md").read_text())


def pages() -> dict[str, str]:
    """The text of every page of the lesson, by its path in made/."""
    return {f"lesson/{file}.rst": page(number, file, shows)
            for number, file, shows in reading_order()}


def page(number: str, file: str, shows: str) -> str:
    """One file of the lesson as a page in reStructuredText."""
    source = (ROOT / "minivae" / f"{file}.py").read_text()
    tree, path = ast.parse(source), f"../../../minivae/{file}.py"
    title = f"{'Last page' if number == 'last' else f'Page {number}'}: {file}.py"
    lines = [":hide-toc:", "", title, "=" * len(title), "", f"*{shows[0].upper()}{shows[1:]}.*", "",
             *docstrings.of_source(ast.get_docstring(tree))]
    at, text = tree.body[0].end_lineno + 1, source.splitlines()
    for node, level in _definitions(tree):
        start = _start(node, text)
        if any(line.strip() for line in text[at - 1 : start - 1]):
            lines += _pair([], path, [(at, start - 1)], text)
        lines += ["", node.title, level * len(node.title), ""]
        end = _end(node)
        words, ranges = _words_and_code(node, start, end)
        lines += _pair(words, path, ranges, text)
        at = end + 1
    if any(line.strip() for line in text[at - 1 :]):
        lines += _pair([], path, [(at, len(text))], text)
    return "\n".join(lines) + "\n"


def _definitions(tree: ast.Module):
    """Each function, class and method in its order, with the sign that underlines its title."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            node.title = node.name
            yield node, "-"
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    method.title = f"{node.name}.{method.name}"
                    yield method, "~"


def _start(node, text: list[str]) -> int:
    """The first line of a definition, with its decorators and the comments right above."""
    line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    while text[line - 2].strip().startswith("#"):
        line -= 1
    return line


def _end(node) -> int:
    """The last line of a function, or of what a class holds above its first method."""
    if isinstance(node, ast.FunctionDef):
        return node.end_lineno
    end = node.lineno
    for child in node.body:
        if isinstance(child, ast.FunctionDef):
            break
        end = child.end_lineno
    return end


def _words_and_code(node, start: int, end: int) -> tuple[list[str], list[tuple[int, int]]]:
    """The docstring as reStructuredText, and the lines of code around it."""
    docstring = ast.get_docstring(node)
    if docstring is None:
        return [], [(start, end)]
    ranges = [(start, node.body[0].lineno - 1), (node.body[0].end_lineno + 1, end)]
    return docstrings.of_source(docstring), [r for r in ranges if r[0] <= r[1]]


def _pair(words: list[str], path: str, ranges: list[tuple[int, int]], text: list[str]) -> list[str]:
    """Words on the left, code on the right."""
    lines = ["", ".. container:: pair", "", "   .. container:: words", ""]
    lines += [f"      {line}".rstrip() for line in words or [".."]]
    lines += ["", "   .. container:: code", ""]
    for first, last in ranges:
        while not text[first - 1].strip() and first < last:
            first += 1
        while not text[last - 1].strip() and first < last:
            last -= 1
        lines += [f"      .. literalinclude:: {path}", f"         :lines: {first}-{last}",
                  "         :lineno-match:", "         :language: python", ""]
    return lines
