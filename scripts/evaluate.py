"""See ``python scripts/evaluate.py --help``."""

from emotion_jax.cli import evaluate

if __name__ == "__main__":
    evaluate.main()
