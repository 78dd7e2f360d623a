"""`python -m c3`, the form that launchers such as torchrun need."""

from .cli import main

if __name__ == "__main__":
    main()
