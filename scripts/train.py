"""See ``python scripts/train.py --help``."""

from emotion_jax.cli import train

if __name__ == "__main__":
    train.main()
