"""``python -m fastggn``: the command line without its script."""

from fastggn.apps.cli import main

if __name__ == "__main__":
    main()
