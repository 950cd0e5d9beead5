"""`python -m penstock.cli`: how the supervisor starts its children, whatever the PATH."""

from penstock.cli import main

if __name__ == "__main__":
    main(prog_name="penstock")
