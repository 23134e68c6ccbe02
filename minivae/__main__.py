"""`python -m minivae` is `minivae`."""

from minivae.app.cli import command

command()
