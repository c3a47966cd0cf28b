"""`python -m vecrollout`."""

from vecrollout.cli import main

# Environments in processes of their own import this module again.
if __name__ == "__main__":
    main()
