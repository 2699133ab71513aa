"""`python -m tallyd_ingest` is the command `tallyd-ingest`."""

from tallyd_ingest.cli import main

if __name__ == "__main__":
    main()
