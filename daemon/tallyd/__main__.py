"""`python -m tallyd` is the command `tallyd`."""

from tallyd.cli import main

if __name__ == "__main__":
    main()
