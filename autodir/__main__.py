"""``python -m autodir``: the same as the command ``autodir``."""

from autodir.cli.app import main

if __name__ == "__main__":
    main()
