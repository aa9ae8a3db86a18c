"""`python -m backend.cli` is `illume`."""

from backend.cli import main

main(prog_name="illume")
