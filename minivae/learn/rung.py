"""A rung of the ladder: an exercise that is cut from a page, and graded at random points.

What a file does in its last cell, the grader does too: `arrays`, `forward` and `backward` are
lines of Python that stand in the file and are run for the grade.
"""

from __future__ import annotations

import copy
import inspect
import textwrap
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from minivae.gradcheck.of_function import check_vjp
from minivae.gradcheck.report import FAIL, Report, unmeasured
from minivae.learn import cut
from minivae.learn.exercise import Exercise, Grade
from minivae.learn.known import known_mistake
from minivae.learn.verdict import Refused, as_parts, compared, has_no_pattern, look_over, sentence

# All sizes different: a mix-up of sizes cannot hide.  Then D = H = Z, where a matrix that should
# have been transposed fits all the same.  Each round has a seed of its own.
ROUNDS = (dict(K=3, B=5, D=4, H=6, Z=2), dict(K=2, B=3, D=4, H=4, Z=4))


@dataclass
class Rung(Exercise):
    """A forward and a backward with a gap, held to finite differences of the page's own forward.

    Parameters
    ----------
    name, title : see Exercise
    task : str
        What is wanted, where this stands in the VAE and which wires come in.
    page : the module whose source is cut
    functions : names of the functions that the file shows, and the reader answers for
    gap : what the lines to be filled assign to
    arrays : lines that make the inputs from rng and the sizes K, B, D, H, Z
    forward : "y = relu_forward(x)".  To be differentiated are the outputs whose dfoo stands in
        `backward`; it comes in as a random upstream gradient.
    backward : "dx = relu_backward(x, dy)".  dx is the gradient of x.
    wire : the first hint, which wire and which shape
    index : the second hint, the index formula with a gap
    home : file and function where the package does this
    learned : one sentence that is said after a pass
    given : helpers and constants that the file shows uncut
    later : what a later exercise fills: open here too, and not graded
    next : what comes next, said after a pass
    """

    name: str
    title: str
    task: str
    page: ModuleType
    functions: tuple[str, ...]
    gap: tuple[str, ...]
    arrays: str
    forward: str
    backward: str
    wire: str
    index: str
    home: tuple[str, str]
    learned: str
    given: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    next: str = ""

    # --- the file ---

    @property
    def hints(self) -> tuple[str, str, str]:
        """Which wire and which shape; the index formula with a gap; operators hidden."""
        lines = [cut.hidden(cut.source_of(self.page, name), self.gap) for name in self.functions]
        return self.wire, self.index, "\n".join(line for line in lines if line)

    def skeleton(self) -> str:
        """The file with its gap."""
        return self.text((*self.gap, *self.later))

    def solution(self) -> str:
        """The file as the package has it."""
        return self.text(())

    def where_it_lives(self) -> str:
        """The kernel or the page's method."""
        return cut.where(*self.home)

    def text(self, open_names: tuple[str, ...]) -> str:
        """The file: what is wanted, what is given, the functions, a try."""
        constants = [cut.source_of(self.page, name) for name in self.given if name.isupper()]
        helpers = [cut.source_of(self.page, name) for name in self.given if not name.isupper()]
        commands = f"minivae learn check {self.name}  (or hint, or solution)"
        cells = [f'"""{self.title}.\n\n{textwrap.fill(self.task, 79)}\n\n{commands}\n"""',
                 "\n".join(["import numpy as np", *[""] * bool(constants), *constants])]
        if helpers:
            cells.append("# %% given\n" + "\n\n\n".join(helpers))
        for name in self.functions:
            whole = cut.source_of(self.page, name)
            shown = cut.blanked(whole, open_names)
            todo = ": fill in what is `...`" if shown != whole else ""
            cells.append(f"# %% {name}{todo}\n{shown}")
        cells.append("# %% try it: run this file\n" + self.trial())
        return "\n\n\n".join(cells) + "\n"

    def trial(self) -> str:
        """The last cell: random arrays through forward and backward, and the shapes that come."""
        sizes = ROUNDS[0]
        lines = ["rng = np.random.default_rng(0)",
                 f"{', '.join(sizes)} = {', '.join(map(str, sizes.values()))}",
                 *self.arrays.splitlines(), *self.steps(),
                 f"shown = {self.shown()}",
                 "for name, array in shown.items():",
                 '    print(name, "is still open" if array is ... else np.shape(array))']
        return 'if __name__ == "__main__":\n' + textwrap.indent("\n".join(lines), "    ")

    def steps(self) -> list[str]:
        """The lines of the last cell that call what is to be filled."""
        upstream = [f"{d} = rng.standard_normal({d[1:]}.shape)" for d in self.upstreams()]
        return [line for line in (self.forward, *upstream, self.backward) if line]

    def shown(self) -> str:
        """A dict, as text: what the last cell shows."""
        return dict_of([d[1:] for d in self.upstreams()] + targets_of(self.backward))

    def upstreams(self) -> list[str]:
        """The upstream gradients that backward takes: dfoo for outputs foo of forward."""
        words = self.backward.partition("(")[2].replace(")", "").split(", ")
        return [f"d{name}" for name in targets_of(self.forward) if f"d{name}" in words]

    # --- the grade ---

    def grade(self, names: dict) -> Grade:
        """At two random points.  What the reader's functions raise goes through."""
        for name in self.functions:
            if not callable(names.get(name)):
                return Grade(False, f"The file does not define {name} any more: "
                                    f"`minivae learn reset {self.name}` writes it anew.")
        try:
            for seed, sizes in enumerate(ROUNDS):
                report = self.check(names, sizes, np.random.default_rng(seed))
                if not report.ok:
                    raise Refused(sentence(report, self.called()), report)
        except Refused as refused:
            words = refused.sentence
            if refused.report and has_no_pattern(refused.report):
                words += self.cause(names, sizes, seed, refused.report)
            return Grade(False, words, refused.report)
        return Grade(True, f"{self.learned}  {self.next}".strip(), report)

    def cause(self, names: dict, sizes: dict, seed: int, report: Report) -> str:
        """What more can be said where the wrong numbers have no pattern."""
        for row in report.rows:
            if row.name == "repeats itself" and row.verdict == FAIL:
                return f"  And {row.note}"
        mistake = known_mistake(self, names, sizes, seed)
        return f"  A known mistake gives these very numbers: {mistake}." if mistake else ""

    def called(self) -> dict[str, str]:
        """The reader's name for the gradient of each array: {"x": "dx"}."""
        return {_input_of(name): name for name in targets_of(self.backward)}

    def check(self, names: dict, sizes: dict, rng: np.random.Generator) -> Report:
        """One round: the forward beside ours, then the backward against differences of ours.

        Raises Refused for what cannot be compared.
        """
        point = point_of(self.arrays, self.page, sizes, rng)
        ours = vars(self.page)
        y = run(self.forward, ours, point)
        self.look_at_forward(run_untouched(self.forward, names, point), y, sizes)
        dy = {d: rng.standard_normal(y[d[1:]].shape) for d in self.upstreams()}
        want = run(self.backward, ours, point | y | dy)
        mine = run_untouched(self.backward, names, point | y | dy)
        graded = [name for name in want if name not in self.later]
        for name in graded:
            look_over(name, mine[name], want[name])

        moved = [_input_of(name) for name in graded]
        outputs = [d[1:] for d in self.upstreams()]

        def forward(*arrays):
            found = run(self.forward, ours, point | dict(zip(moved, arrays)))
            parts = tuple(found[name] for name in outputs)
            return parts if len(parts) > 1 else parts[0]

        def backward(*arrays_and_dy):
            here = point | dict(zip(moved, arrays_and_dy))
            here |= run(self.forward, ours, here)
            here |= dict(zip(dy, arrays_and_dy[-1] if len(dy) > 1 else arrays_and_dy[-1:]))
            found = run(self.backward, names, here)
            return tuple(found[name] for name in graded)

        forward.__signature__ = signature(moved)
        return check_vjp(forward, backward, *[point[name] for name in moved], rng=rng,
                         title=self.name)

    def answers(self, functions: dict, sizes: dict, rng: np.random.Generator) -> dict:
        """What functions give at a random point: forward's outputs, and the gradients."""
        point, ours = point_of(self.arrays, self.page, sizes, rng), vars(self.page)
        y = run(self.forward, ours, point)
        dy = {d: rng.standard_normal(y[d[1:]].shape) for d in self.upstreams()}
        found = run(self.forward, functions, point) | run(self.backward, functions, point | y | dy)
        return {name: a for name, a in found.items()
                if name not in self.later and isinstance(a, (np.ndarray, np.number))}

    def look_at_forward(self, mine: dict, want: dict, sizes: dict) -> None:
        """Raise Refused where the reader's forward gives other arrays than ours."""
        arrays = {name: np.asarray(a) for name, a in want.items()
                  if isinstance(a, (np.ndarray, np.number))}
        for name, right in arrays.items():
            look_over(name, mine[name], right)
        report = compared(self.name, {name: mine[name] for name in arrays}, arrays,
                          in_words(sizes))
        if not report.ok:
            words = sentence(report, {})
            if report.worst.name not in self.gap:
                words = f"The forward of the file was changed: {words}"
            raise Refused(words, report)


def in_words(sizes: dict[str, int]) -> dict[str, int]:
    """Sizes as a sentence calls them.  K * B rows may be summed, too."""
    words = {"the number of samples": sizes["K"], "the batch size": sizes["B"]}
    return words | {"the number of rows": sizes["K"] * sizes["B"],
                    "the number of pixels": sizes["D"], "the number of latents": sizes["Z"]}


# --- lines of Python: "dx, dW = backward(x, dy)" --------------------------------------------------


def targets_of(line: str) -> list[str]:
    """What the line assigns to."""
    return line.partition(" = ")[0].split(", ")


def dict_of(names: list[str]) -> str:
    """The text of a dict of variables by their names."""
    return f"dict({', '.join(f'{name}={name}' for name in names)})"


def _input_of(gradient: str) -> str:
    """dx -> x, d_raw -> raw"""
    return gradient.removeprefix("d").removeprefix("_")


def run(line: str, functions: dict, arrays: dict) -> dict:
    """What the line assigns, by name."""
    call = line.partition(" = ")[2]
    found = eval(call, dict(functions), arrays)
    return dict(zip(targets_of(line), as_parts(found, targets_of(line), call.partition("(")[0])))


def run_untouched(line: str, functions: dict, arrays: dict) -> dict:
    """What the line assigns.  Raises Refused where a function writes into an array it was given."""
    handed = copy.deepcopy(arrays)
    found = run(line, functions, handed)
    for name in arrays:
        if not all(map(np.array_equal, leaves(handed[name]), leaves(arrays[name]))):
            function = line.partition(" = ")[2].partition("(")[0]
            words = f"{function} writes into {name}, which belongs to its caller: copy it first."
            row = unmeasured("leaves its inputs alone", (), FAIL, words)
            raise Refused(words, Report(function, [row]))
    return copy.deepcopy(found)


def leaves(thing) -> list:
    """The arrays and numbers of a dict, tuple or list, to any depth."""
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, (list, tuple)):
        return [leaf for part in thing for leaf in leaves(part)]
    return [thing]


def point_of(arrays: str, page: ModuleType, sizes: dict, rng: np.random.Generator) -> dict:
    """The arrays that the lines make, and the sizes, by name.

    The lines may call the page's functions.
    """
    known = {**vars(page), "np": np, "rng": rng}
    scope = known | sizes
    exec(arrays, scope)
    return {name: a for name, a in scope.items() if name not in known}


def signature(names: list[str]) -> inspect.Signature:
    """Arguments of these names, so that a report calls its rows by them."""
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                              for name in names])
