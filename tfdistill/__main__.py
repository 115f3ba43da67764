"""`python -m tfdistill` is the command `tfdistill`."""

from tfdistill.cli import main

if __name__ == "__main__":
    main()
