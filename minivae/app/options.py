"""The commands and their options, for argparse; cli.py runs them.

Nothing that imports NumPy is imported here.
"""

import argparse
import textwrap
from dataclasses import fields
from difflib import get_close_matches
from functools import partial

from minivae import __version__
from minivae.app.exit_codes import EXIT_CODES
from minivae.app.settings import RunSettings, natural_number, positive_int, recipes_in_words


class Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, which keeps the line breaks of descriptions and examples; long lines wrap."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(textwrap.fill(line, width, break_on_hyphens=False)
                         for line in text.splitlines())


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line, and --help keeps the line breaks of its texts."""

    def __init__(self, **settings):
        settings = {"formatter_class": Formatter, **settings}
        super().__init__(**settings)

    def parse_known_args(self, args=None, namespace=None):
        """Refuse here what this command does not know: argparse would leave it to the top."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            like = get_close_matches(unknown[0].split("=")[0], self._option_string_actions, n=1)
            hint = f", did you mean {like[0]}?" if like else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown

    def error(self, message: str):
        """Raise ValueError: `main` prints it in one line."""
        raise ValueError(f"{message} (see `{self.prog} --help`)")

    def _print_message(self, message: str, file=None):
        """Print --help or --version.  argparse would pass over a disk that is full."""
        print(message, end="", file=file, flush=True)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = Parser(prog="minivae",
                 description="A variational autoencoder whose every gradient you can read and "
                             "check.\n`minivae` alone is `minivae train`.",
                 epilog="example: minivae train --epochs 5 && minivae sample\n"
                        "`minivae COMMAND --help` has more.\n\n" + EXIT_CODES)
    top.add_argument("--version", action="version", version=f"minivae {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_train(commands)
    add_evaluate(commands)
    add_sample(commands)
    add_reconstruct(commands)
    add_latent(commands)
    add_gradcheck(commands)
    add_loss(commands)
    add_doctor(commands)
    add_walk(commands)
    add_explain(commands)
    parts_of_learn = add_learn(commands)
    for command in [*commands.choices.values(), *parts_of_learn.choices.values()]:
        # without a default a part of learn leaves what `minivae learn --quiet ..` has set
        group = command.add_argument_group("in every command", argument_default=argparse.SUPPRESS)
        group.add_argument("--quiet", action="store_true",
                           help="print nothing but errors, and JSON where it is asked for")
        group.add_argument("--debug", action="store_true", help="show where an error came from")
    top.set_defaults(quiet=False, debug=False)
    return top


# --- options that several commands share: parents of their parsers ---


def run_options(files: str) -> argparse.ArgumentParser:
    """The options of a command that looks at a finished run and writes `files`."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("folder", nargs="?", metavar="RUN",
                        help="a run folder, or a model's .npz in it (default: the newest folder "
                             "under runs/)")
    parent.add_argument("--out", metavar="PATH", help=f"where to write {files}")
    add_force(parent)
    return parent


def add_force(command) -> None:
    """The option --force."""
    command.add_argument("--force", action="store_true",
                         help="replace a file that minivae did not write")


def image_options() -> argparse.ArgumentParser:
    """Options that say where the images are."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--data", metavar="NAME|PATH",
                        help="other images, or the run's own where they have moved "
                             "(default: what the run noted)")
    parent.add_argument("--data-dir", metavar="DIR",
                        help="where mnist/, fashion-mnist/ or kmnist/ is, where it has moved "
                             "(default: what the run noted)")
    parent.add_argument("--key", metavar="NAME",
                        help="which array of a .npz holds the images (default: what the run "
                             "noted; with --data x_test, x_train or the only array)")
    return parent


def json_option(what: str) -> argparse.ArgumentParser:
    """The option --json, which prints `what`."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--json", action="store_true",
                        help=f"print {what} as JSON, and nothing else")
    return parent


def add_train(commands) -> None:
    """The command train; its options are the fields of RunSettings, and where the run lies."""
    command = commands.add_parser(
        "train", help="train a VAE and write its pictures (the default command)",
        description="Train a VAE and write model.npz, config.json, history.csv and four pictures "
                    "into a run folder.",
        epilog="defaults that depend on the data:\n" + recipes_in_words() + "\n\n"
               "example: minivae train --data mnist --data-dir DIR --epochs 5\n"
               "on several machines, by MPI: mpiexec -n 4 minivae train --batch-size 512")
    for setting in fields(RunSettings):
        command.add_argument("--" + setting.name.replace("_", "-"), **setting.metadata)
    command.add_argument("--out", metavar="FOLDER",
                         help="the run folder, which must not exist yet "
                              "(default: runs/NAME, runs/NAME-2, ..)")
    command.add_argument("--resume", metavar="RUN",
                         help="go on with the run in this folder (or from a .npz in it), bit for "
                              "bit as if it had never stopped; its settings stay, only --epochs "
                              "may be raised")


def add_evaluate(commands) -> None:
    """The command evaluate."""
    picture = run_options("the picture, a .png or a folder (default: the run folder)")
    command = commands.add_parser(
        "evaluate", parents=[picture, image_options(), json_option("the numbers")],
        help="log p(x) of a run by importance sampling, the gap above its ELBO, and what each "
             "latent says",
        description="Judge a trained model on the test images of its run, and draw the KL of every "
                    "latent dimension.",
        epilog="example: minivae evaluate runs/digits --eval-samples 5000")
    command.add_argument("--eval-samples", type=partial(positive_int, least=2), default=1000,
                         metavar="S",
                         help="draws of z per image, at least 2 (default: 1000)")
    command.add_argument("--images", type=positive_int, metavar="N",
                         help="how many test images, evenly spaced (default: 500, or all where "
                              "there are fewer)")


def add_sample(commands) -> None:
    """The command sample."""
    picture = run_options("the picture, a .png or a folder (default: RUN/gallery/samples.png)")
    command = commands.add_parser(
        "sample", parents=[picture], help="new images from a trained model",
        description="Draw z from the prior and write a sheet of the images that the decoder makes "
                    "of them.",
        epilog="example: minivae sample runs/digits --n 25 --seed 3 --out new.png")
    add_gallery_options(command, 100, 10_000, "how many new images",
                        "seed of the draws from the prior")


def add_reconstruct(commands) -> None:
    """The command reconstruct."""
    picture = run_options("the picture, a .png or a folder "
                          "(default: RUN/gallery/reconstructions.png)")
    command = commands.add_parser(
        "reconstruct", parents=[picture, image_options()],
        help="images, and below each what a trained model makes of it",
        description="Encode test images of the run, or images of yours, decode the posterior mean "
                    "(of coins: the likeliest) and write both on a sheet. All images of a file or "
                    "folder are taken, or its test images if it has some; one .png is one image.",
        epilog="example: minivae reconstruct runs/digits --data images.npy --n 20")
    add_gallery_options(command, 40, 10_000, "how many images",
                        "seed of their choice, and of pixels that are drawn black or white")


def add_latent(commands) -> None:
    """The command latent."""
    pictures = run_options("the pictures, a folder (default: RUN/gallery)")
    command = commands.add_parser(
        "latent", parents=[pictures, image_options()],
        help="walks through a trained model's latent space: between images, and along each latent",
        description="Write interpolation.png, from image to image; traversal.png, what each latent "
                    "does to one image; and of a model with two Gaussian latents manifold.png, "
                    "the images of the whole plane.",
        epilog="example: minivae --latent 2 --out runs/two && minivae latent runs/two --seed 1")
    add_gallery_options(command, 8, 500, "how many interpolations",
                        "seed of the choice of images, and of pixels that are drawn black or "
                        "white")


def add_gallery_options(command, n: int, most: int, what_n: str, what_seed: str) -> None:
    """--n, with its default and its limit, --seed and --npz.

    what_n and what_seed explain the first two.
    """
    command.add_argument("--n", type=partial(positive_int, most=most), default=n,
                         help=f"{what_n} (default: {n}, at most {most:,})")
    command.add_argument("--seed", type=natural_number, default=0, help=f"{what_seed} (default: 0)")
    command.add_argument("--npz", action="store_true",
                         help="write the arrays, too, into a .npz beside the pictures")


def add_gradcheck(commands) -> None:
    """The command gradcheck."""
    command = commands.add_parser(
        "gradcheck", parents=[json_option("the rows")],
        help="check every gradient of the package, or one of yours; plant a bug and see it "
             "caught",
        description="Hold every hand-written gradient to finite differences, in float64, through "
                    "the kernels that training runs.",
        epilog="""examples:
  minivae gradcheck                        all checks, a row each
  minivae gradcheck Dense                  one of them, array by array
  minivae gradcheck mymodule:MyLayer       a class of yours, made as MyLayer()
                                           or MyLayer(n_in, n_out, rng, dtype)
  minivae gradcheck mymodule:thing         a layer; a pair (f, grad) or
                                           (forward, backward), with inputs
                                           after it if need be; or a function
                                           that returns one of these
  minivae gradcheck --plant kl-mu-dropped  plant a known bug, in memory, and
                                           see what catches it
  minivae gradcheck --plant list           a line for each known bug
  minivae gradcheck --plant all            the whole museum""")
    command.add_argument("name", nargs="?",
                         help="a check (see the first column), or module:name of yours")
    command.add_argument("--plant", metavar="FAULT", help="a fault's name, list, or all")
    command.add_argument("--mixes-rows", action="store_true",
                         help="the examples of a batch meet in this layer of yours, as in batch "
                              "normalisation: it need not add over the batch")
    command.add_argument("--seed", type=natural_number, default=0,
                         help="seed of the points and directions (default: 0)")


def add_loss(commands) -> None:
    """The command loss."""
    command = commands.add_parser(
        "loss", parents=[json_option("the readings")],
        help="what the two numbers of a VAE's loss may mean, and the beta that each amounts to",
        description="List every plausible way to have added up recon and kl: sum or mean over "
                    "pixels, latents, batch.\n`minivae.which_loss` names the one, from the arrays.",
        epilog="example:\n"
               "  minivae loss --recon 0.15 --kl 5.2 --pixels 784 --latents 20 --batch 128")
    for name, symbol, what in (("recon", "R", "the reconstruction"), ("kl", "K", "the KL")):
        command.add_argument("--" + name, type=float, required=True, metavar=symbol,
                             help=f"{what}, as your code prints it")
    for name, symbol, what in (("pixels", "D", "how many pixels an image has"),
                               ("latents", "Z", "how many latents"),
                               ("batch", "B", "how many images a batch has")):
        command.add_argument("--" + name, type=positive_int, required=True, metavar=symbol,
                             help=what)


def add_doctor(commands) -> None:
    """The command doctor."""
    command = commands.add_parser(
        "doctor", parents=[json_option("the findings")],
        help="versions, threads, folders, data and speed: what a report of trouble needs",
        description="Look at the installation. Whatever is broken is reported, and the exit code "
                    "is 0 all the same.",
        epilog="example: minivae doctor --json")
    command.add_argument("--data-dir", metavar="DIR",
                         help="where mnist/, fashion-mnist/ or kmnist/ is (default: as in train)")
    command.add_argument("--clean", action="store_true",
                         help="only remove the compiled kernels that are kept on the disk; "
                              "downloaded data stay")


def add_walk(commands) -> None:
    """The command walk."""
    command = commands.add_parser(
        "walk", help="one backward pass of a run, node by node, with its numbers",
        description="Walk one test image through a trained model: forward down, backward up, every "
                    "gradient beside its finite difference.",
        epilog="example: minivae walk runs/digits --image 3 --estimator stl")
    add_image_of_a_run(command)
    command.add_argument("--estimator", metavar="NAME",
                         help="which gradient to take (default: what the run was trained with)")


def add_explain(commands) -> None:
    """The command explain."""
    command = commands.add_parser(
        "explain", help="the same as a live page for a browser",
        description="Write one self-contained HTML page: a backward pass of the run's own model, "
                    "node by node.",
        epilog="example: minivae explain runs/digits --image 3 --open")
    add_image_of_a_run(command)
    command.add_argument("--out", default="explain.html", metavar="FILE",
                         help="where to write the page (default: explain.html)")
    add_force(command)
    command.add_argument("--open", action="store_true", help="show the page in the browser")


def add_image_of_a_run(command) -> None:
    """RUN and --image."""
    command.add_argument("folder", nargs="?", metavar="RUN",
                         help="a run folder (default: the newest under runs/, or a small model "
                              "trained on the spot)")
    command.add_argument("--image", type=natural_number, default=0, metavar="N",
                         help="which test image (default: 0)")


def add_learn(commands):
    """The command learn and its parts, which are returned."""
    command = commands.add_parser(
        "learn", parents=[exercises_option("minivae-learn")],
        help="exercises: write the backward pass yourself, and find planted faults",
        description="Write a folder of exercises and grade each file when you save it. Keys: "
                    "n next, h hint, l list, c check all, s solution, x reset, q quit.",
        epilog="example: minivae learn --dir exercises && minivae learn check 1 --dir exercises")
    command.add_argument("--once", action="store_true",
                         help="do not watch: write the folder, grade the first exercise that has "
                              "not passed, and end with 0 (so it is where there is no terminal)")
    parts = command.add_subparsers(dest="part", metavar="PART")
    folder = exercises_option(argparse.SUPPRESS)

    def add_part(name: str, text: str, *parents):
        return parts.add_parser(name, parents=[folder, *parents], help=text,
                                description=text[0].upper() + text[1:] + ".")

    which = "a number (7), a name (dense-dx) or a file (02_dense_dx.py)"
    check = add_part("check", "grade once: exit code 0 where all that was graded passed, else 1",
                     json_option("the grades"))
    check.add_argument("name", nargs="?", metavar="NAME", help=f"{which}; default: all begun")
    add_part("status", "list the exercises; what changed since it was graded is graded again")
    for name, text in (("hint", "the next of three hints"),
                       ("solution", "the solution beside your lines, and where the package does "
                                    "the same"),
                       ("reset", "write the file as it was at first, over yours")):
        add_part(name, text).add_argument("name", metavar="NAME", help=which)
    add_part("finish", "train the digits with your own backward and Adam, beside the package's")
    add_part("selftest", "prove the grader: skeletons and known faults are refused, sources pass")
    return parts


def exercises_option(default: str) -> argparse.ArgumentParser:
    """The option --dir."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--dir", metavar="DIR", default=default,
                        help="the folder of the exercises (default: ./minivae-learn)")
    return parent
