"""Runs the command line: python -m eigenforget.cli."""

from eigenforget.cli import main

if __name__ == "__main__":
    main()
