"""`python -m garrison.supervisor.cli`."""

from . import main

main()
