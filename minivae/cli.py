"""The command line.  `minivae` alone trains on the digits and writes pictures."""

import argparse
import sys
from pathlib import Path

EXIT_OK, EXIT_WRONG_GRADIENT, EXIT_WRONG_INPUT, EXIT_NON_FINITE = 0, 1, 2, 3

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
    """Run one command; the exit code is 0, 1 for a wrong gradient, 2 for wrong input, 3 for a training that turned non-finite."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["train", *argv]
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except FloatingPointError as error:
        return _fail(error, EXIT_NON_FINITE)
    except BrokenPipeError:                                # `minivae | head`: nobody reads on, which is no fault of the input
        sys.stderr.close()
        return 141
    except (ValueError, OSError, MemoryError) as error:
        return _fail(error, EXIT_WRONG_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(error: Exception | str, code: int) -> int:
    print(f"minivae: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    import minivae

    top = argparse.ArgumentParser(prog="minivae", description="A variational autoencoder whose every gradient you can read and check.",
                                  epilog="exit codes: 0 done, 1 a gradient is wrong, 2 wrong input, 3 training turned non-finite, 130 interrupted,\n"
                                         "143 terminated")
    top.add_argument("--version", action="version", version=f"minivae {minivae.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_gradcheck(commands)
    _add_doctor(commands)
    _add_walk(commands)
    _add_explain(commands)
    return top


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="train a VAE and write its pictures (the default command)",
                                formatter_class=argparse.RawDescriptionHelpFormatter,
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
        from minivae.run import Run, settings_to_resume

        checkpoint, settings = settings_to_resume(said)
        return Run(load_data(settings.data, settings.data_dir), settings, lambda: checkpoint.parent, checkpoint).train()
    settings = argparse.Namespace(**{**DEFAULTS, **said})
    data = load_data(settings.data, settings.data_dir)
    coins = dict(estimator="disarm", samples=2) if settings.latent_kind == "bernoulli" else {}
    recipe = RECIPES.get(data.name if settings.data in RECIPES else "own")
    settings = argparse.Namespace(**{**DEFAULTS, **coins, **recipe, **said})

    from minivae.run import Run                            # NumPy, Numba and the model come in here

    return Run(data, settings, lambda: run_folder(data.name, arguments.out)).train()


def _add_evaluate(commands) -> None:
    judge = commands.add_parser("evaluate", help="log p(x) of a run by importance sampling, the gap above its ELBO, and what each latent says",
                                formatter_class=argparse.RawDescriptionHelpFormatter,
                                description="Judge a trained model on the test images of its run, and draw the KL of every latent dimension.",
                                epilog="example: minivae evaluate runs/digits --eval-samples 5000")
    judge.set_defaults(run=_evaluate)
    option = judge.add_argument
    option("folder", nargs="?", metavar="RUN", help="a run folder (default: the newest under runs/)")
    option("--eval-samples", type=_positive_int, default=1000, metavar="S", help="draws of z per image, at least 2 (default: 1000)")
    option("--images", type=_positive_int, metavar="N", help="how many test images, evenly spaced (default: 500, or all where there are fewer)")
    option("--data", metavar="NAME|PATH", help="the data of the run, where they have moved (default: what the run noted)")
    option("--data-dir", metavar="DIR", help="where mnist/, fashion-mnist/ or kmnist/ is, where it has moved (default: what the run noted)")
    option("--json", action="store_true", help="print the numbers as JSON")


def _evaluate(arguments: argparse.Namespace) -> int:
    import json

    from minivae.evaluation import Evaluation, newest_run

    folder = arguments.folder or newest_run()
    evaluation = Evaluation(folder, arguments.eval_samples, arguments.images, arguments.data, arguments.data_dir)
    for warning in evaluation.warnings():
        print(f"minivae: warning: {warning}", file=sys.stderr)
    if not arguments.json:
        print(f"run       {folder}{'' if arguments.folder else ', the newest one'}")
        evaluation.print_head()
    evaluation.run()
    if arguments.json:
        picture = evaluation.draw_picture()
        print(json.dumps({**evaluation.as_dict(), "picture": str(picture)}, indent=1))
    else:
        evaluation.print_numbers()
        print(f"\nwrote {evaluation.draw_picture()}")
    return EXIT_OK


def _add_gradcheck(commands) -> None:
    check = commands.add_parser("gradcheck", help="check every gradient of the package, or of a layer of yours; plant a bug and see it caught",
                                formatter_class=argparse.RawDescriptionHelpFormatter,
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
    check.add_argument("--json", action="store_true", help="print rows as JSON")
    check.add_argument("--seed", type=_seed, default=0, help="of the points and directions (default: 0)")


def _gradcheck(arguments: argparse.Namespace) -> int:
    if arguments.plant == "all":
        return _museum(arguments)
    if arguments.plant is not None:
        return _plant_one(arguments)
    return _check(arguments)


def _check(arguments: argparse.Namespace) -> int:
    import json

    from minivae import checks
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

    from minivae import museum
    from minivae.checks import CHECKS
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

    from minivae import museum

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
    doctor = commands.add_parser("doctor", help="versions, threads, folders, data and speed: what a report of trouble needs",
                                 description="Look at the installation. Whatever is broken is reported, and the exit code is 0 all the same.",
                                 epilog="example: minivae doctor --json")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--data-dir", metavar="DIR", help="where mnist/, fashion-mnist/ or kmnist/ is (default: as in train)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")


def _doctor(arguments: argparse.Namespace) -> int:
    import json

    from minivae import doctor

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
