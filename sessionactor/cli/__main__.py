"""`python -m sessionactor.cli`: the command line, where its script is not on the path."""

from sessionactor.cli import main

if __name__ == "__main__":
    main()
