"""The command line: `main` parses it and runs one command.

`minivae` alone trains on the digits and writes pictures.  Every command imports what it needs when
it runs, so `minivae --help` and a mistyped option answer at once, without NumPy.
"""

import argparse
import json
import os
import sys
import traceback
import warnings
import webbrowser
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from minivae.app.exit_codes import (EXIT_FAULT, EXIT_INTERRUPTED, EXIT_NO_READER, EXIT_NON_FINITE,
                                    EXIT_OK, EXIT_WRONG_GRADIENT, EXIT_WRONG_INPUT)
from minivae.app.folders import shown
from minivae.app.options import parser
from minivae.app.settings import RunSettings
from minivae.app.signals import Interrupts, leave, on_signals
from minivae.app.surroundings import (all_ranks, check_variables, flush, is_rank, open_streams,
                                      say)


def process() -> NoReturn:
    """`main` in a process of its own, which ends with its exit code."""
    open_streams()
    # pictures go into files: what a notebook has set here is not for this process
    os.environ["MPLBACKEND"] = "Agg"
    try:
        exit_code = main()
    except SystemExit as stop:                             # argparse, after --help
        exit_code = stop.code or EXIT_OK
    if exit_code > 128:
        on_signals(leave)                                  # all has been said
    lost = flush(sys.stdout)
    if lost and exit_code == EXIT_OK:
        exit_code = EXIT_NO_READER
        if not isinstance(lost, BrokenPipeError):
            exit_code = EXIT_WRONG_INPUT
            say(f"the output cannot be written: {lost.strerror}")
    flush(sys.stderr)
    sys.exit(exit_code)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns an exit code, see EXIT_CODES.

    argv : the words after `minivae`; left out, those of this process.
    """
    argv = sys.argv[1:] if argv is None else argv
    # a library's own text may go on for lines, with a traceback in it
    warnings.formatwarning = lambda text, *_: f"minivae: warning: {str(text).splitlines()[0]}\n"
    for_minivae = ("-h", "--help", "--version")
    if not argv or (argv[0].startswith("-") and argv[0] not in for_minivae):
        argv = ["train", *argv]
    with Interrupts() as interrupts:
        exit_code = run_command(argv, interrupts)
    return exit_code if interrupts.number is None else 128 + interrupts.number


def run_command(argv: list[str], interrupts: Interrupts) -> int:
    """Run the command in `argv`; an error becomes one line and an exit code."""
    try:
        for word in argv:
            if word.endswith("=--"):                       # argparse would make a list of it
                raise ValueError(f"{word}: wanted a value after the =")
        arguments = parser().parse_args(argv)
        check_variables()
        with quieted(arguments):
            return COMMANDS[arguments.command](arguments)
    except BrokenPipeError:
        # `minivae | head`: nobody reads on, which is no fault of the input
        return EXIT_NO_READER
    except (Exception, KeyboardInterrupt) as error:
        # argv is asked and not `arguments`: the error may be one of parsing
        if "--debug" in argv:
            traceback.print_exc()
        message, exit_code = error_message(error)
        if interrupts.number is None:                      # else the signal's handler has spoken
            say(message)
        return exit_code


def error_message(error: BaseException) -> tuple[str, int]:
    """The message for an error, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    if isinstance(error, FloatingPointError):
        return str(error), EXIT_NON_FINITE
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this. {error}".rstrip(), EXIT_WRONG_INPUT
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}", EXIT_WRONG_INPUT
    if isinstance(error, (ValueError, OSError)):
        return str(error) or type(error).__name__, EXIT_WRONG_INPUT
    what = f"{type(error).__name__}: {error}"
    return f"a fault of minivae itself, {what} (--debug shows where)", EXIT_FAULT


def quieted(arguments: argparse.Namespace) -> ExitStack:
    """A context in which --quiet silences everything but the JSON of --json.

    Errors are printed outside of it.
    """
    stack = ExitStack()
    if arguments.quiet:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stderr(nowhere))
        if not getattr(arguments, "json", False):
            stack.enter_context(redirect_stdout(nowhere))
    return stack


def run_train(arguments: argparse.Namespace) -> int:
    """Train, or go on with a training; under mpiexec, all ranks together."""
    if not is_rank():
        return train(arguments)
    ranks = all_ranks()
    try:
        with ranks.ending_all(), quieted(argparse.Namespace(quiet=not ranks.first)):
            return train(arguments, ranks)
    except (Exception, KeyboardInterrupt) as error:
        if ranks.first:
            raise
        return error_message(error)[1]                     # rank 0 says what it is


def train(arguments: argparse.Namespace, ranks=None) -> int:
    """The same, on the Ranks of MPI where there are such.  Rank 0 alone knows files and folders."""
    on_first = (lambda do: do()) if ranks is None else ranks.on_first
    options = {setting.name: getattr(arguments, setting.name) for setting in fields(RunSettings)}
    given = {name: value for name, value in options.items() if value is not None}
    if arguments.resume is not None:
        return resume_run(arguments, given, ranks)

    # NumPy comes in here: images that cannot be read are refused before Numba and the model are
    # loaded, which takes longer
    from minivae.data import load_data

    data = on_first(lambda: load_data(given.get("data", "digits"), given.get("data_dir"),
                                      given.get("key")))
    settings = RunSettings.for_data(x_dim=data.x_train.shape[1], **given)

    from minivae.app.folders import new_run_folder
    from minivae.app.train import Run

    make_folder = lambda: new_run_folder(data.name, arguments.out)
    return Run(data, settings, make_folder, None, ranks).train()


def resume_run(arguments: argparse.Namespace, given: dict, ranks=None) -> int:
    """Go on with a training; `given` are the settings that the command line names.

    Raises ValueError where --out is given too, and for what `settings_to_resume` refuses.
    """
    from minivae.app.resuming import settings_to_resume
    from minivae.app.train import Run
    from minivae.data import load_data

    on_first = (lambda do: do()) if ranks is None else ranks.on_first
    if arguments.out is not None:
        raise ValueError(f"--out {arguments.out} with --resume: a resumed run stays in its folder")
    checkpoint, settings = on_first(lambda: settings_to_resume(arguments.resume, given))
    data = on_first(lambda: load_data(settings.data, settings.data_dir, settings.key))
    return Run(data, settings, lambda: checkpoint.parent, checkpoint, ranks).train()


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Judge a run, and print or draw what was found."""
    from minivae.app.evaluate import Evaluation
    from minivae.app.folders import output_path
    from minivae.app.lines import warn
    from minivae.saving.runs import newest_run

    evaluation = Evaluation(arguments.folder or newest_run(), arguments.eval_samples,
                            arguments.images, arguments.data, arguments.data_dir,
                            arguments.key)
    picture = output_path(arguments.out, evaluation.folder, "kl_per_dimension.png", arguments.force)
    for warning in evaluation.warnings():
        warn(warning)
    if not arguments.json:
        evaluation.print_head(newest=not arguments.folder)
    evaluation.run()
    if not arguments.json:
        evaluation.print_numbers()
    evaluation.draw_picture(picture)
    if arguments.json:
        print(json.dumps({**evaluation.as_dict(), "picture": str(picture)}, indent=1))
    else:
        print(f"\nwrote {shown(picture)}")
    return EXIT_OK


def run_sample(arguments: argparse.Namespace) -> int:
    """Write new images."""
    from minivae.app import gallery

    run = open_named_run(arguments)
    print_written(gallery.sample(run, arguments.n, arguments.seed, arguments.out, arguments.npz,
                                 arguments.force))
    return EXIT_OK


def run_reconstruct(arguments: argparse.Namespace) -> int:
    """Write images and their reconstructions."""
    from minivae.app import gallery

    print_written(gallery.reconstruct(open_named_run(arguments), **images_to_draw(arguments)))
    return EXIT_OK


def run_latent(arguments: argparse.Namespace) -> int:
    """Write the pictures of the latent space."""
    from minivae.app import gallery

    print_written(gallery.latent(open_named_run(arguments), **images_to_draw(arguments)))
    return EXIT_OK


def open_named_run(arguments: argparse.Namespace):
    """The run that the command line names, or the newest one; a line says which."""
    from minivae.saving.runs import newest_run, open_run

    run = open_run(arguments.folder or newest_run())
    run.print_head(newest=not arguments.folder)
    return run


def images_to_draw(arguments: argparse.Namespace) -> dict:
    """The options that reconstruct and latent share."""
    names = ("n", "seed", "data", "data_dir", "key", "out", "npz", "force")
    return {name: getattr(arguments, name) for name in names}


def print_written(paths: list[Path]) -> None:
    """Name the files that were written."""
    print("\n" + "\n".join(f"wrote {shown(path)}" for path in paths))


def run_gradcheck(arguments: argparse.Namespace) -> int:
    """Check gradients, or plant faults.

    Planting one always gives 1; planting all gives 0 if all are caught; listing gives 0.
    """
    from minivae.app.gradcheck import list_faults, plant_all_faults, plant_fault, run_checks

    seed, as_json = arguments.seed, arguments.json
    if arguments.plant is None:
        right = run_checks(arguments.name, seed, as_json, arguments.mixes_rows)
    elif arguments.plant == "list":
        list_faults(as_json)
        right = True
    elif arguments.plant == "all":
        right = plant_all_faults(seed, as_json)
    else:
        plant_fault(arguments.plant, seed, as_json)
        right = False
    return EXIT_OK if right else EXIT_WRONG_GRADIENT


def run_loss(arguments: argparse.Namespace) -> int:
    """Print what two numbers of a loss may mean."""
    from minivae.app.loss import print_readings

    print_readings(arguments.recon, arguments.kl, arguments.pixels, arguments.latents,
                   arguments.batch, arguments.json)
    return EXIT_OK


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print what the doctor finds, or empty the folder of compiled kernels."""
    from minivae.app import doctor

    if arguments.clean:
        print(doctor.clean())
        return EXIT_OK
    found = doctor.examine(arguments.data_dir)
    print(json.dumps(found, indent=1) if arguments.json else doctor.as_text(found))
    return EXIT_OK


def run_walk(arguments: argparse.Namespace) -> int:
    """Print one backward pass."""
    from minivae.explain.walk import walk

    walk(arguments.folder, arguments.image, arguments.estimator)
    return EXIT_OK


def run_explain(arguments: argparse.Namespace) -> int:
    """Write one backward pass as a page."""
    from minivae.app.folders import check_output
    from minivae.explain.page import explain

    check_output(Path(arguments.out), arguments.force)
    finite = explain(arguments.folder, arguments.image, arguments.out)
    if arguments.open and not webbrowser.open(Path(arguments.out).resolve().as_uri()):
        print(f"minivae: no browser was found: open {arguments.out} yourself", file=sys.stderr)
    return EXIT_OK if finite else EXIT_NON_FINITE


def run_learn(arguments: argparse.Namespace) -> int:
    """Watch the exercises, or one part of it; 1 where an exercise did not pass."""
    from minivae.app import learn

    return EXIT_OK if learn.run(arguments) else EXIT_WRONG_GRADIENT


COMMANDS = {"train": run_train, "evaluate": run_evaluate, "sample": run_sample,
            "reconstruct": run_reconstruct, "latent": run_latent, "gradcheck": run_gradcheck,
            "loss": run_loss, "doctor": run_doctor, "walk": run_walk, "explain": run_explain,
            "learn": run_learn}
