"""What `minivae learn` and its parts do: each returns whether what was asked for has passed."""

import argparse
import json
import sys
from pathlib import Path

from minivae.learn import show, watch
from minivae.learn.child import names_of
from minivae.learn.course import all_exercises
from minivae.learn.exercise import Exercise
from minivae.learn.files import Folder
from minivae.learn.hunts import HUNTS


def run(arguments: argparse.Namespace) -> bool:
    """Watch, or do one part."""
    folder = Folder(arguments.dir, all_exercises())
    if arguments.part is None:
        return start(folder, arguments.once)
    if arguments.part == "selftest":
        return selftest()
    folder.check_is_there()
    if arguments.part == "status":
        return status(folder)
    if arguments.part == "finish":
        from minivae.learn.finish import finish
        return finish(folder)
    if arguments.part == "check":
        return check(folder, arguments.name, arguments.json)
    exercise = folder.find(arguments.name)
    return {"hint": hint, "solution": solution, "reset": reset}[arguments.part](folder, exercise)


def start(folder: Folder, once: bool) -> bool:
    """Write the folder, then watch it; without a terminal or with --once grade one file."""
    written = folder.write()
    if written:
        print(f"wrote {len(written)} exercises into\n{show.code(str(folder.path), '   ')}")
    grade_again(folder)
    if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        exercise = watch.first_open(folder)
        print(show.heading(folder, exercise))
        print(show.result(folder, exercise, watch.grade(folder, exercise)))
        print("\n" + show.progress_bar(folder))
        return True
    with watch.keys() as keys:
        watch.Watch(folder, keys).run()
    return True


def check(folder: Folder, name: str | None, as_json: bool) -> bool:
    """Grade one exercise, or all that are begun; whether there were any, and all passed."""
    chosen = folder.begun() if name is None else [folder.find(name)]
    all_passed, records = bool(chosen), []
    if not as_json and name is None:
        names = ", ".join(exercise.name for exercise in chosen) or "none yet"
        print(show.wrapped(f"begun: {names}"))
    for exercise in chosen:
        found = watch.grade(folder, exercise)
        all_passed &= found.passed
        records.append({"exercise": exercise.name, "file": str(folder.file(exercise)),
                        **found._asdict()})
        if not as_json:
            print(show.result(folder, exercise, found), flush=True)
    print(json.dumps(records, indent=1) if as_json else "\n" + show.progress_bar(folder))
    return all_passed


def status(folder: Folder) -> bool:
    """List the exercises; what changed since it was graded is graded again."""
    grade_again(folder)
    print(show.listing(folder))
    return True


def grade_again(folder: Folder) -> None:
    """Grade the files that are begun, and are not as they were when they were graded last."""
    for exercise in folder.ungraded():
        print(f"grading {folder.file(exercise).name}", flush=True)
        watch.grade(folder, exercise)


def hint(folder: Folder, exercise: Exercise) -> bool:
    """Print the next hint."""
    print(watch.next_hint(folder, exercise))
    return True


def solution(folder: Folder, exercise: Exercise) -> bool:
    """Print the solution; before a pass a terminal asks first, and it is marked."""
    opened = watch.may_open(folder, exercise, ask)
    if opened:
        print(show.solution(folder, exercise))
    return opened


def reset(folder: Folder, exercise: Exercise) -> bool:
    """Write the file as it was at first; a terminal asks first."""
    name = folder.file(exercise).name
    agreed = ask(f"Write {name} as it was at first? What you wrote in it is lost.")
    if agreed:
        folder.reset(exercise)
        print(f"{name} is as it was at first.")
    return agreed


def ask(question: str) -> bool:
    """Whether y is typed; without a terminal the command itself is the yes."""
    if not sys.stdin.isatty():
        return True
    try:
        return input(show.wrapped(question + " y / n") + " ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def selftest() -> bool:
    """Prove the grader: skeletons and known faults are refused, solutions pass."""
    from minivae.learn import selftest as ladder

    well = ladder.run(print)
    for name, hunt in HUNTS.items():
        skeleton, solution = (hunt.grade(names_of(Path(name), text.encode())).passed
                              for text in (hunt.skeleton(), hunt.solution()))
        if skeleton or not solution:
            print(f"WRONG  {name}: skeleton passed: {skeleton}, solution passed: {solution}")
            well = False
    print(f"{len(HUNTS)} hunts: each skeleton and each solution graded")
    return well
