"""`python -m minivae` is `minivae`."""

from minivae.cli import main

raise SystemExit(main())
