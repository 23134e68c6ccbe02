"""`python -m minivae` is `minivae`."""

from minivae.app.signals import on_signals, say_and_leave


def command() -> None:
    """The command `minivae`, in a process of its own, which ends with its exit code."""
    # before the rest is imported: Ctrl-C may come at any moment
    on_signals(say_and_leave)
    from minivae.app.cli import process

    process()


if __name__ == "__main__":
    command()
