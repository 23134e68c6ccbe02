"""`python -m minivae` is `minivae`."""

from minivae.app.cli import main

raise SystemExit(main())
