"""`python -m kjcm`: the same door as the installed `kjcm` command."""

from kjcm.cli import main

if __name__ == "__main__":
    main()
