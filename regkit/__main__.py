"""`python -m regkit`: the command line."""

from regkit.cli.app import main

if __name__ == "__main__":
    main()
