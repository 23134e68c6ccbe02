"""The museum's page: every fault as a diff, what a user would see, and who catches it."""

import difflib
import json
from pathlib import Path

from minivae.gradcheck.museum import AN_ERROR, FAULTS, Fault, edited_source

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def page() -> str:
    """The page in Markdown, a section for each file and in it one for each fault."""
    caught = {row["fault"]: row for row in json.loads((RESULTS / "museum.json").read_text())}
    others = json.loads((RESULTS / "checkers.json").read_text())
    files = list(dict.fromkeys(fault.where.partition(":")[0] for fault in FAULTS))
    head = (Path(__file__).parent / "museum.head.txt").read_text()
    text = [head.format(faults=len(FAULTS), kinds=len({fault.mechanism for fault in FAULTS}),
                        caught=sum(bool(row["check"]) for row in caught.values()))]
    for file in files:
        text.append(f"## {file.replace('.', '/')}.py")
        text += [section(fault, caught[fault.name], others) for fault in FAULTS
                 if fault.where.partition(":")[0] == file]
    return "\n\n".join(text) + "\n"


def section(fault: Fault, caught: dict, others: dict) -> str:
    """One fault."""
    diffs = "\n".join(diff(*edit) for edit in ((fault.where, fault.old, fault.new), *fault.also))
    if not caught["check"]:
        by = "nothing: missed"
    elif caught["row"] == AN_ERROR:
        by = f"`{caught['check']}` stops: `{caught['message']}`"
    else:
        by = f"`{caught['check']}`, at `{caught['row']}`"
        message = caught["message"].removeprefix("suspect: ")
        by += f"\n- **{'Suspect' if message != caught['message'] else 'It says'}:** {code(message)}"
    found = [name for name, names in others["found"].items()
             if others["accepts"][name] and not name.startswith("minivae") and fault.name in names]
    return f"""### {fault.name}

{fault.mechanism[0].upper()}{fault.mechanism[1:]}.

```diff
{diffs}
```

- **What a user would see:** {code(fault.symptom)}
- **Caught by:** {by}
- **Other checkers that object:** {'; '.join(found) or 'none'}"""


def diff(where: str, old: str, new: str) -> str:
    """The changed lines, with two lines around them."""
    before, after = edited_source(where, old, old), edited_source(where, old, new)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm="")
    shown = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return "\n".join([f"@@ {where.replace(':', ': ')}", *shown])


def code(words: str) -> str:
    """Words in which no sign is markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>|#" else sign for sign in words)
