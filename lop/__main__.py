"""`python -m lop`, also below torchrun."""

from lop.application import main

if __name__ == "__main__":
    main()
