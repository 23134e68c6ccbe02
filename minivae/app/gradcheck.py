"""What `minivae gradcheck` does: run the checks, or plant a known fault and see what catches it."""

import json
import sys
import textwrap
from difflib import get_close_matches

from minivae.gradcheck import FAIL, INCONCLUSIVE, KINK, PASS
from minivae.gradcheck import museum, suite
from minivae.gradcheck.report import COLUMNS, in_bars
from minivae.gradcheck.yours import user_check


def run_checks(name: str | None, seed: int, as_json: bool, mixes_rows: bool = False) -> bool:
    """Print the rows of one check, or a line for each of them all; whether every gradient is right.

    name : None for all, a name of `suite.CHECKS`, or module:name of the user's.
    mixes_rows : for a layer of the user's in which the examples of a batch meet.
    """
    if name is None and not as_json:
        print(f"      {'check':35s}rows  diff/bar  worst array")
    chosen = _chosen_checks(name, mixes_rows)
    counts, records = dict.fromkeys((PASS, FAIL, KINK, INCONCLUSIVE), 0), []
    for title, check in chosen.items():
        report = check(seed)
        for row in report.rows:
            counts[row.verdict] += 1
            records.append({"check": title, **_without_nan(row._asdict())})
        if as_json:
            continue
        in_full = name is not None or not report.ok
        print(report if in_full else _summary(title, report), flush=True)
    if as_json:
        print(json.dumps(records, default=str, indent=1))
    else:
        totals = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
        print(f"{len(chosen)} check{'s' * (len(chosen) > 1)}: {totals}")
    return counts[FAIL] == counts[INCONCLUSIVE] == 0


def _chosen_checks(name: str | None, mixes_rows: bool) -> dict:
    """The checks to run, by title.  Raises ValueError for a name that there is not."""
    if name is None:
        return suite.CHECKS
    if name in suite.CHECKS:
        return {name: suite.CHECKS[name]}
    if ":" in name:
        # the user's module lies in the folder where the command was typed
        sys.path.insert(0, "")
        return {name: lambda seed: user_check(name, seed, mixes_rows)}
    raise ValueError(f"unknown check {name!r}{_nearest(name, suite.CHECKS)} see the first column "
                     "of `minivae gradcheck`, or name what is yours as module:name")


def _nearest(name: str, known) -> str:
    """The names that look most like this one, as a question; ";" where none does."""
    lower = {one.lower(): one for one in known}
    like = get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    found = list(dict.fromkeys([one for one in lower if name.lower() in one] + like))[:3]
    return f", did you mean {' or '.join(repr(lower[one]) for one in found)}?" if found else ";"


def _without_nan(row: dict) -> dict:
    """The row with None for each NaN, which JSON does not have."""
    return {key: None if value != value else value for key, value in row.items()}


def _summary(title: str, report) -> str:
    """One line for a check that passed: the row that came nearest to its error bar."""
    worst = max((row for row in report.rows if row.bar > 0), key=in_bars)
    of_array = textwrap.shorten(worst.name, 23, placeholder=" ..")
    return f"PASS  {title:35s}{len(report.rows):4d}  {in_bars(worst):8.1e}  {of_array}"


def plant_fault(name: str, seed: int, as_json: bool) -> None:
    """Plant one fault of the museum, in memory, and print what it changes and what catches it.

    Raises ValueError for a name that there is not.
    """
    if name not in museum.BY_NAME:
        raise ValueError(f"unknown fault {name!r}{_nearest(name, museum.BY_NAME)} see "
                         "`minivae gradcheck --plant list`")
    fault = museum.BY_NAME[name]
    caught = museum.catch(fault, seed)
    if as_json:
        print(json.dumps(museum.record(fault, caught), indent=1))
        return
    _print_edits(fault)
    if not caught.check:
        print("MISSED")
    elif caught.row == museum.AN_ERROR:
        print(_wrapped(f"caught by {caught.check}: {caught.message}"))
    else:
        with museum.planted(fault):
            print(suite.CHECKS[caught.check](seed))
        print("\n" + _wrapped(f"caught by {caught.check}, {caught.row}: {caught.message}"))


def _print_edits(fault) -> None:
    """Print the lines that the fault changes, as a diff, and what a user would see of it."""
    print(f"planted in {fault.where}, in memory only:")
    for where, old, new in ((fault.where, fault.old, fault.new), *fault.also):
        print(f"  {where}")
        for sign, text in (("-", old), ("+", new)):
            for line in text.splitlines():
                print(f"    {sign} {line.strip()}")
    print(_wrapped(f"what a user would see: {fault.symptom}"), end="\n\n")


def _wrapped(words: str) -> str:
    """Words within COLUMNS; further lines are indented."""
    return textwrap.fill(words, COLUMNS, subsequent_indent="    ", break_long_words=False)


def list_faults(as_json: bool) -> None:
    """Print a line for each fault of the museum: its name and what kind of mistake it is."""
    if as_json:
        print(json.dumps([fault._asdict() for fault in museum.FAULTS], indent=1))
        return
    for fault in museum.FAULTS:
        print(f"{fault.name:32s} {fault.mechanism}")


def plant_all_faults(seed: int, as_json: bool) -> bool:
    """Plant every fault of the museum, one at a time; whether all were caught."""
    caught, records = 0, []
    for fault in museum.FAULTS:
        found = museum.catch(fault, seed)
        caught += bool(found.check)
        records.append(museum.record(fault, found))
        if not as_json:
            by = f"caught by {found.check}, {found.row}" if found.check else "MISSED"
            print(_wrapped(f"{fault.name}  in {fault.where}"))
            for words in (by, found.message, f"seen in training: {fault.symptom}"):
                print(_wrapped(f"    {words}"), flush=True)
    if as_json:
        print(json.dumps(records, indent=1))
    else:
        print(f"{caught} of {len(museum.FAULTS)} caught")
    return caught == len(museum.FAULTS)
