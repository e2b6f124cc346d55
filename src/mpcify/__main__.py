"""`python -m mpcify`: the command line."""

from mpcify.cli.main import main

main()
