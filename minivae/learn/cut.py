"""Source text, cut for an exercise: a function out of its page, a gap into a line.

Nothing is written twice: an exercise is cut from the package's source when it is asked for.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parents[1]


def source_of(page: ModuleType, name: str) -> str:
    """The source of a function of a page, or the line of a constant."""
    if callable(getattr(page, name)):
        return inspect.getsource(getattr(page, name)).rstrip()
    lines = inspect.getsource(page).splitlines()
    return next(line for line in lines if line.startswith(f"{name} ="))


def gaps(source: str, names: tuple[str, ...]) -> list[ast.stmt]:
    """The assignments to one of `names`, in order; dp[] stands for any entry of dp."""
    statements = [node for node in ast.walk(ast.parse(source))
                  if isinstance(node, (ast.Assign, ast.AugAssign))]
    found = [node for node in statements if set(names) & set(targets_of(node))]
    return sorted(found, key=lambda node: node.lineno)


def targets_of(node: ast.Assign | ast.AugAssign) -> list[str]:
    """What a line assigns to: ["dmu", "dlogvar"], or ["dp[]"]."""
    targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
    each = [part for target in targets for part in getattr(target, "elts", [target])]
    return [re.sub(r"\[.*", "[]", ast.unparse(part)) for part in each]


def blanked(source: str, names: tuple[str, ...]) -> str:
    """A function with `...` on the right of every line that assigns to one of `names`.

    Of its docstring the first paragraph stays; the formulas below would give the answer away.
    A line `p -= step` becomes `p = ...`.  Comments keep their column.
    """
    lines, open_lines = source.splitlines(), gaps(source, names)
    if not open_lines:
        return source
    for node in open_lines:
        line, value = lines[node.lineno - 1], node.value
        left = re.sub(r" [-+*/]= $", " = ", line[: value.col_offset])
        dots = ", ".join(["..."] * _width(node))
        comment = line[value.end_col_offset:].lstrip()
        column = len(line) - len(comment)
        lines[node.lineno - 1] = (left + dots).ljust(column) + comment if comment else left + dots
    text = "\n".join(lines)
    start = text.index('"""') + 3
    docstring = text[start : text.index('"""', start)]
    return text.replace(docstring, docstring.split("\n\n")[0], 1)


def _width(node: ast.Assign | ast.AugAssign) -> int:
    """How many values stand on the right of a line `a, b = ...`."""
    targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
    return max(len(getattr(target, "elts", "1")) for target in targets)


def hidden(source: str, names: tuple[str, ...]) -> str:
    """The lines that assign to one of `names`, their operators * + - / @ . shown as `?`.

    The dot of np. and what belongs to a number are no operators, and stay.
    """
    found = []
    for node in gaps(source, names):
        line, right = (ast.get_source_segment(source, part) for part in (node, node.value))
        left = re.sub(r"[-+*/]=", "?=", line.removesuffix(right))
        found.append(left + re.sub(r"[*+/@]|(?<!\de)-|(?<!np)\.(?!\d)", "?", right))
    return "\n".join(found)


def where(path: str, name: str) -> str:
    """A function or Class.method of a file of the package, headed by its place.

    The file is read as text: nothing of it is imported.
    """
    text = (PACKAGE / path).read_text(encoding="utf-8")
    node = ast.parse(text)
    for part in name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    return f"# minivae/{path}, line {first}\n" + textwrap.dedent("\n".join(lines))
