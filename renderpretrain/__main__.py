"""``python -m renderpretrain``, which is what ``torchrun -m`` starts."""

from renderpretrain.cli import main

if __name__ == "__main__":
    main()
