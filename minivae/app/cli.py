"""The command line.  `minivae` alone trains on the digits and writes pictures."""

import argparse
import os
import sys
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

EXIT_OK, EXIT_WRONG_GRADIENT, EXIT_WRONG_INPUT, EXIT_NON_FINITE = 0, 1, 2, 3
EXIT_FAULT, EXIT_INTERRUPTED, EXIT_NO_READER = 70, 130, 141
EXIT_CODES = """exit codes:
    0  done
    1  a gradient is wrong, or one that was planted wrong has been caught
    2  wrong input
    3  a number is not finite: in training, or from a trained model
   70  a fault of minivae itself: --debug shows where
  130  interrupted (Ctrl-C)
  141  whoever read the output has gone
  143  terminated (SIGTERM)"""

# what each data set is trained with where the command line says nothing
RECIPES = {
    "digits": dict(epochs=60, batch_size=32, hidden=[200], latent=8, lr=2e-3, activation="relu"),
    **dict.fromkeys(("mnist", "fashion-mnist", "kmnist"),
                    dict(epochs=30, batch_size=128, hidden=[400, 200], latent=30, lr=1e-3, activation="relu")),
    "own": dict(epochs=30, batch_size=64, hidden=[200], latent=10, lr=1e-3, activation="relu"),
}
# and whatever the data
DEFAULTS = dict(data="digits", data_dir=None, likelihood="bernoulli", beta=1.0, estimator="elbo", samples=1, seed=0, dtype="float32", binarize=None,
                latent_kind="gaussian", temperature=0.5, baseline="others", warmup=0.0, decay=1.0, patience=None)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns an exit code, see EXIT_CODES."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["train", *argv]
    try:
        arguments = parser().parse_args(argv)
        with _hushed(arguments):
            return arguments.run(arguments)
    except BrokenPipeError:                                # `minivae | head`: nobody reads on, which is no fault of the input
        sys.stderr.close()
        return EXIT_NO_READER
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:                              # not `arguments`: the error may be one of parsing
            traceback.print_exc()
        line, code = _told(error)
        print(f"minivae: {' '.join(line.split())}", file=sys.stderr)
        return code


def _told(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    if isinstance(error, FloatingPointError):
        return str(error), EXIT_NON_FINITE
    if isinstance(error, (ValueError, OSError, MemoryError)):
        return str(error), EXIT_WRONG_INPUT
    return f"a fault of minivae itself, {type(error).__name__}: {error} (--debug shows where)", EXIT_FAULT


def _hushed(arguments: argparse.Namespace) -> ExitStack:
    """Within `with`, nothing is printed where --quiet is asked for, save the JSON of --json; an error is told outside."""
    stack = ExitStack()
    if arguments.quiet:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stderr(nowhere))
        if not getattr(arguments, "json", False):
            stack.enter_context(redirect_stdout(nowhere))
    return stack


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line, and a --help keeps its line breaks."""

    def __init__(self, **settings):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})

    def error(self, message: str):
        raise ValueError(f"{message} (see `{self.prog} --help`)")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    import minivae

    top = _Parser(prog="minivae", description="A variational autoencoder whose every gradient you can read and check.\n"
                                              "`minivae` alone is `minivae train`.",
                  epilog="example: minivae train --epochs 5 && minivae sample\n`minivae COMMAND --help` has more.\n\n" + EXIT_CODES)
    top.add_argument("--version", action="version", version=f"minivae {minivae.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_sample(commands)
    _add_reconstruct(commands)
    _add_latent(commands)
    _add_gradcheck(commands)
    _add_doctor(commands)
    _add_walk(commands)
    _add_explain(commands)
    for command in commands.choices.values():
        group = command.add_argument_group("in every command")
        group.add_argument("--quiet", action="store_true", help="print nothing but errors, and JSON where it is asked for")
        group.add_argument("--debug", action="store_true", help="show where an error came from")
    return top


# --- what several commands have: parents of their parsers ---


def _of_a_run(files: str) -> argparse.ArgumentParser:
    """The options of a command that looks at a finished run and writes `files`."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("folder", nargs="?", metavar="RUN", help="a run folder (default: the newest under runs/)")
    parent.add_argument("--out", metavar="PATH", help=f"where to write {files}")
    return parent


def _of_images() -> argparse.ArgumentParser:
    """Where the images are."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--data", metavar="NAME|PATH", help="other images, or the run's own where they have moved (default: what the run noted)")
    parent.add_argument("--data-dir", metavar="DIR", help="where mnist/, fashion-mnist/ or kmnist/ is, where it has moved (default: what the run "
                        "noted)")
    return parent


def _as_json(what: str) -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--json", action="store_true", help=f"print {what} as JSON, and nothing else")
    return parent


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="train a VAE and write its pictures (the default command)",
                                description="Train a VAE and write model.npz, config.json, history.csv and four pictures into a run folder.",
                                epilog="where nothing is said:\n" + "\n".join(
                                    f"  {name:13s} {', '.join(f'{k} {v}' for k, v in recipe.items())}" for name, recipe in RECIPES.items())
                                + "\n\nexample: minivae train --data mnist --data-dir DIR --epochs 5")
    train.set_defaults(run=_train)
    option = train.add_argument
    option("--data", metavar="NAME|PATH", help="what to train on: digits, mnist, fashion-mnist or kmnist, or a .npy or .npz "
           "of images (default: digits)")
    option("--data-dir", metavar="DIR", help="where mnist/ is, or fashion-mnist/ or kmnist/ (default: the environment variable MINIVAE_DATA, "
           "then a cache folder, to which they are downloaded)")
    option("--epochs", type=_positive_int, metavar="N", help="passes over the training images")
    option("--batch-size", type=_positive_int, metavar="B", help="images per step")
    option("--hidden", type=_widths, metavar="N,N,..", help="widths of the encoder's hidden layers; the decoder mirrors them")
    option("--latent", type=_positive_int, metavar="Z", help="latent dimensions")
    option("--likelihood", metavar="NAME", help="bernoulli or gaussian (default: bernoulli)")
    option("--activation", metavar="NAME", help="relu, tanh, sigmoid or softplus (default: relu)")
    option("--beta", type=float, help="weight of the KL; 1 is the ELBO (default: 1)")
    option("--estimator", metavar="NAME", help="elbo, elbo_mc, stl, score, score_analytic_kl, iwae, iwae_stl, dreg, rws, vimco or disarm "
           "(default: elbo; disarm for a bernoulli latent); iwae to vimco tighten the bound with --samples")
    option("--samples", type=_positive_int, metavar="K", help="draws of z per image (default: 1; 2 for a bernoulli latent)")
    option("--latent-kind", choices=["gaussian", "bernoulli", "concrete", "straight-through"],
           help="normal numbers, coins, or coins whose gradient is relaxed and biased (default: gaussian)")
    option("--temperature", type=float, help="of a concrete latent: towards 0 less bias, more variance (default: 0.5)")
    option("--baseline", choices=["none", "others", "running-mean", "nvil"],
           help="what score and score_analytic_kl take off f; others is the mean over the image's other samples (default: others)")
    option("--lr", type=float, help="Adam's step size")
    option("--warmup", type=float, metavar="EPOCHS", help="epochs in which beta rises from 0 to its value, a little at every batch (default: 0)")
    option("--decay", type=float, metavar="FACTOR", help="what each epoch leaves of lr, e.g. 0.97 (default: 1, all of it)")
    option("--patience", type=_positive_int, metavar="EPOCHS", help="stop after so many epochs without a better ELBO on a tenth of the training "
           "images, held out; the best model goes into best.npz (default: never)")
    option("--seed", type=_seed, help="of the weights and of training (default: 0)")
    option("--dtype", choices=["float32", "float64"], help="precision (default: float32)")
    option("--binarize", choices=["dynamic", "threshold", "none"], help="grey pixels to black and white: drawn afresh at every pass, "
           "cut at one half, or left grey (default: dynamic for bernoulli, none for gaussian)")
    option("--out", metavar="FOLDER", help="the run folder, which must not exist yet (default: runs/NAME, runs/NAME-2, ..)")
    option("--resume", metavar="RUN", help="go on with the run in this folder (or from a .npz in it), bit for bit as if it had never stopped; "
           "its settings stay, only --epochs may be raised")


def _positive_int(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 1, got {text!r}")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 0, got {text!r}")
    return int(text)


def _widths(text: str) -> list[int]:
    return [_positive_int(part.strip()) for part in text.split(",")]


def run_folder(name: str, out: str | None) -> Path:
    """A new, empty folder: `out`, or runs/NAME, runs/NAME-2, ..; never an old one."""
    if out is not None:
        try:
            Path(out).mkdir(parents=True)
        except FileExistsError:
            raise ValueError(f"--out {out} exists already; nothing is ever written over a run: choose another name") from None
        return Path(out)
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _train(arguments: argparse.Namespace) -> int:
    from minivae.data import load_data

    said = {name: value for name, value in vars(arguments).items() if value is not None}
    if "resume" in said:
        from minivae.app.train import Run, settings_to_resume

        checkpoint, settings = settings_to_resume(said)
        return Run(load_data(settings.data, settings.data_dir), settings, lambda: checkpoint.parent, checkpoint).train()
    settings = argparse.Namespace(**{**DEFAULTS, **said})
    data = load_data(settings.data, settings.data_dir)
    coins = dict(estimator="disarm", samples=2) if settings.latent_kind == "bernoulli" else {}
    recipe = RECIPES.get(data.name if settings.data in RECIPES else "own")
    settings = argparse.Namespace(**{**DEFAULTS, **coins, **recipe, **said})

    from minivae.app.train import Run                            # NumPy, Numba and the model come in here

    return Run(data, settings, lambda: run_folder(data.name, arguments.out)).train()


def _add_evaluate(commands) -> None:
    judge = commands.add_parser("evaluate", parents=[_of_a_run("the picture, a .png or a folder (default: the run folder)"), _of_images(),
                                                     _as_json("the numbers")],
                                help="log p(x) of a run by importance sampling, the gap above its ELBO, and what each latent says",
                                description="Judge a trained model on the test images of its run, and draw the KL of every latent dimension.",
                                epilog="example: minivae evaluate runs/digits --eval-samples 5000")
    judge.set_defaults(run=_evaluate)
    option = judge.add_argument
    option("--eval-samples", type=_positive_int, default=1000, metavar="S", help="draws of z per image, at least 2 (default: 1000)")
    option("--images", type=_positive_int, metavar="N", help="how many test images, evenly spaced (default: 500, or all where there are fewer)")


def _evaluate(arguments: argparse.Namespace) -> int:
    import json

    from minivae.app.evaluate import Evaluation
    from minivae.saving.runs import newest_run

    folder = arguments.folder or newest_run()
    evaluation = Evaluation(folder, arguments.eval_samples, arguments.images, arguments.data, arguments.data_dir)
    for warning in evaluation.warnings():
        print(f"minivae: warning: {warning}", file=sys.stderr)
    if not arguments.json:
        evaluation.print_head(newest=not arguments.folder)
    evaluation.run()
    if arguments.json:
        picture = evaluation.draw_picture(arguments.out)
        print(json.dumps({**evaluation.as_dict(), "picture": str(picture)}, indent=1))
    else:
        evaluation.print_numbers()
        print(f"\nwrote {evaluation.draw_picture(arguments.out)}")
    return EXIT_OK


def _add_sample(commands) -> None:
    made = commands.add_parser("sample", parents=[_of_a_run("the picture, a .png or a folder (default: RUN/gallery/sample.png)")],
                               help="new images from a trained model",
                               description="Draw z from the prior and write a sheet of the images that the decoder makes of them.",
                               epilog="example: minivae sample runs/digits --n 25 --seed 3 --out new.png")
    made.set_defaults(run=_sample)
    _add_gallery_options(made.add_argument, "how many new images", 100, "of the draws from the prior")


def _add_reconstruct(commands) -> None:
    made = commands.add_parser("reconstruct", parents=[_of_a_run("the picture, a .png or a folder (default: RUN/gallery/reconstruct.png)"),
                                                       _of_images()],
                               help="images, and below each what a trained model makes of it",
                               description="Encode test images of the run, or images of yours, decode the posterior mean (of coins: the\n"
                                           "likeliest) and write both on a sheet. Of a .npy all images are taken, of a .npz x_test if it is there.",
                               epilog="example: minivae reconstruct runs/digits --data images.npy --n 20")
    made.set_defaults(run=_reconstruct)
    _add_gallery_options(made.add_argument, "how many images", 40, "of their choice, and of pixels that are drawn black or white")


def _add_latent(commands) -> None:
    made = commands.add_parser("latent", parents=[_of_a_run("the pictures, a folder (default: RUN/gallery)"), _of_images()],
                               help="walks through a trained model's latent space: between images, and along each latent",
                               description="Write interpolation.png, from image to image; traversal.png, what each latent does to one image;\n"
                                           "and of a model with two Gaussian latents manifold.png, the images of the whole plane.",
                               epilog="example: minivae --latent 2 --out runs/two && minivae latent runs/two --seed 1")
    made.set_defaults(run=_latent)
    _add_gallery_options(made.add_argument, "how many interpolations", 8, "of the choice of images, and of pixels that are drawn black or white")


def _add_gallery_options(option, what: str, n: int, seed: str) -> None:
    option("--n", type=_positive_int, default=n, help=f"{what} (default: {n})")
    option("--seed", type=_seed, default=0, help=f"{seed} (default: 0)")
    option("--npz", action="store_true", help="write the arrays, too, into a .npz beside the pictures")


def _sample(arguments: argparse.Namespace) -> int:
    from minivae.app import gallery

    return _wrote(gallery.sample(_opened(arguments), arguments.n, arguments.seed, arguments.out, arguments.npz))


def _reconstruct(arguments: argparse.Namespace) -> int:
    from minivae.app import gallery

    a = arguments
    return _wrote(gallery.reconstruct(_opened(a), a.n, a.seed, a.data, a.data_dir, a.out, a.npz))


def _latent(arguments: argparse.Namespace) -> int:
    from minivae.app import gallery

    a = arguments
    return _wrote(gallery.latent(_opened(a), a.n, a.seed, a.data, a.data_dir, a.out, a.npz))


def _opened(arguments: argparse.Namespace):
    """The run that is meant, after a line that says which."""
    from minivae.saving.runs import newest_run, open_run

    run = open_run(arguments.folder or newest_run())
    run.print_head(newest=not arguments.folder)
    return run


def _wrote(paths: list[Path]) -> int:
    print("\n" + "\n".join(f"wrote {path}" for path in paths))
    return EXIT_OK


def _add_gradcheck(commands) -> None:
    check = commands.add_parser("gradcheck", parents=[_as_json("the rows")],
                                help="check every gradient of the package, or of a layer of yours; plant a bug and see it caught",
                                description="Hold every hand-written gradient to finite differences, in float64, "
                                            "through the kernels that training runs.",
                                epilog="examples:\n"
                                       "  minivae gradcheck                               all checks, a row each\n"
                                       "  minivae gradcheck Dense                         one of them, array by array\n"
                                       "  minivae gradcheck mymodule:MyLayer              a layer of yours, made as MyLayer() or\n"
                                       "                                                  MyLayer(n_in, n_out, rng, dtype), or a function\n"
                                       "                                                  that returns (layer, *inputs)\n"
                                       "  minivae gradcheck --plant kl-mu-dropped         plant a known bug, in memory, and see what catches it\n"
                                       "  minivae gradcheck --plant all                   the whole museum")
    check.set_defaults(run=_gradcheck)
    check.add_argument("name", nargs="?", help="a check (see the first column), or module:name of yours")
    check.add_argument("--plant", metavar="FAULT", help="a fault's name, or all")
    check.add_argument("--seed", type=_seed, default=0, help="of the points and directions (default: 0)")


def _gradcheck(arguments: argparse.Namespace) -> int:
    if arguments.plant == "all":
        return _museum(arguments)
    if arguments.plant is not None:
        return _plant_one(arguments)
    return _check(arguments)


def _check(arguments: argparse.Namespace) -> int:
    import json

    from minivae.gradcheck import suite as checks
    from minivae.gradcheck import FAIL, INCONCLUSIVE, KINK, PASS

    name = arguments.name
    if name is None:
        chosen = checks.CHECKS
    elif name in checks.CHECKS:
        chosen = {name: checks.CHECKS[name]}
    elif ":" in name:
        sys.path.insert(0, "")                             # a module in the folder where the command was typed
        chosen = {name: lambda seed: checks.user_check(name, seed)}
    else:
        raise ValueError(f"unknown check {name!r}; choose from {', '.join(checks.CHECKS)}, or name a layer of yours as module:Class")
    counts, records = dict.fromkeys((PASS, FAIL, KINK, INCONCLUSIVE), 0), []
    for title, check in chosen.items():
        report = check(arguments.seed)
        for row in report.rows:
            counts[row.verdict] += 1
            records.append({"check": title, **{key: None if value != value else value for key, value in row._asdict().items()}})
        if arguments.json:
            continue
        if name is not None or not report.ok:
            print(report, flush=True)
        else:
            worst = max((row for row in report.rows if row.bar > 0), key=lambda row: abs(row.analytic - row.numeric) / row.bar)
            print(f"{title:30s} {len(report.rows):3d} rows   worst difference {abs(worst.analytic - worst.numeric):8.1e} of an error bar of "
                  f"{worst.bar:7.1e} ({worst.name})", flush=True)
    if arguments.json:
        print(json.dumps(records, default=str, indent=1))
    else:
        print(f"{len(chosen)} checks: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    return EXIT_WRONG_GRADIENT if counts[FAIL] or counts[INCONCLUSIVE] else EXIT_OK


def _plant_one(arguments: argparse.Namespace) -> int:
    import json

    from minivae.gradcheck import museum
    from minivae.gradcheck.suite import CHECKS
    from minivae.model import choose

    fault = choose(arguments.plant, museum.BY_NAME, "fault")
    caught = museum.catch(fault, arguments.seed)
    if arguments.json:
        print(json.dumps(museum.record(fault, caught), indent=1))
        return EXIT_WRONG_GRADIENT
    print(f"planted in {fault.where}, in memory only:")
    for where, old, new in ((fault.where, fault.old, fault.new), *fault.also):
        print(f"  {where}")
        for sign, text in (("-", old), ("+", new)):
            print("\n".join(f"    {sign} {line.strip()}" for line in text.splitlines()))
    print(f"what a user would see: {fault.symptom}\n")
    if not caught.check:
        print("MISSED")
        return EXIT_WRONG_GRADIENT
    if caught.row == museum.AN_ERROR:
        print(f"caught by {caught.check}: {caught.message}")
    else:
        with museum.planted(fault):
            print(CHECKS[caught.check](arguments.seed))
        print(f"\ncaught by {caught.check}, {caught.row}: {caught.message}")
    return EXIT_WRONG_GRADIENT


def _museum(arguments: argparse.Namespace) -> int:
    import json

    from minivae.gradcheck import museum

    caught, records = 0, []
    for fault in museum.FAULTS:
        found = museum.catch(fault, arguments.seed)
        caught += bool(found.check)
        records.append(museum.record(fault, found))
        if not arguments.json:
            by = f"{found.check}, {found.row}" if found.check else "MISSED"
            print(f"{fault.name:33s} {fault.where:40s} {by}\n    {found.message}\n    seen in training: {fault.symptom}", flush=True)
    if arguments.json:
        print(json.dumps(records, indent=1))
    else:
        print(f"{caught} of {len(museum.FAULTS)} caught")
    return EXIT_OK if caught == len(museum.FAULTS) else EXIT_WRONG_GRADIENT


def _add_doctor(commands) -> None:
    doctor = commands.add_parser("doctor", parents=[_as_json("the findings")],
                                 help="versions, threads, folders, data and speed: what a report of trouble needs",
                                 description="Look at the installation. Whatever is broken is reported, and the exit code is 0 all the same.",
                                 epilog="example: minivae doctor --json")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--data-dir", metavar="DIR", help="where mnist/, fashion-mnist/ or kmnist/ is (default: as in train)")


def _doctor(arguments: argparse.Namespace) -> int:
    import json

    from minivae.app import doctor

    found = doctor.examine(arguments.data_dir)
    print(json.dumps(found, indent=1) if arguments.json else doctor.as_text(found))
    return EXIT_OK


def _add_walk(commands) -> None:
    walk = commands.add_parser("walk", help="one backward pass of a run, node by node, with its numbers",
                               description="Walk one test image through a trained model: forward down, backward up, every gradient beside "
                                           "its finite difference.", epilog="example: minivae walk runs/digits --image 3 --estimator stl")
    walk.set_defaults(run=_walk)
    _add_subject(walk)
    walk.add_argument("--estimator", metavar="NAME", help="which gradient to take (default: what the run was trained with)")


def _add_explain(commands) -> None:
    explain = commands.add_parser("explain", help="the same as a page to step through in a browser",
                                  description="Write one self-contained HTML page: a backward pass of the run's own model, node by node.",
                                  epilog="example: minivae explain runs/digits --image 3 --out three.html")
    explain.set_defaults(run=_explain)
    _add_subject(explain)
    explain.add_argument("--out", default="explain.html", metavar="FILE", help="where to write the page (default: explain.html)")


def _add_subject(command) -> None:
    command.add_argument("folder", nargs="?", metavar="RUN",
                         help="a run folder (default: the newest under runs/, or a small model trained on the spot)")
    command.add_argument("--image", type=_seed, default=0, metavar="N", help="which test image (default: 0)")


def _walk(arguments: argparse.Namespace) -> int:
    from minivae.explain.walk import walk

    walk(arguments.folder, arguments.image, arguments.estimator)
    return EXIT_OK


def _explain(arguments: argparse.Namespace) -> int:
    from minivae.explain.page import explain

    return EXIT_OK if explain(arguments.folder, arguments.image, arguments.out) else EXIT_NON_FINITE
