"""What each kind of finding means and what to do about it, for who has not read the code."""

from typing import NamedTuple

from emotion_jax.evaluation.doctor.findings import (
    BLANK,
    BROKEN,
    DUPLICATE,
    IMBALANCE,
    LABEL_CONFLICT,
    LEAK,
    MISLABEL,
    NEAR_DUPLICATE,
    OUTLIER,
)

BAD, WARN, NOTE = "bad", "warn", "note"


class Advice(NamedTuple):
    """On a kind of finding.

    Attributes:
      title: of its section.
      level: ``bad`` spoils results, ``warn`` costs accuracy, ``note`` may be right as it is.
      meaning: what it is and what it does.
      remedy: what to do.
    """

    title: str
    level: str
    meaning: str
    remedy: str


ADVICE = {
    LEAK: Advice(
        "Leaks between splits",
        BAD,
        "Images that also occur in an earlier split: with the same pixels, or as the same "
        "photograph brightened, shifted, stamped or mirrored. A network is then tested on what it "
        "was trained on, and its test accuracy is too good.",
        "--fix removes them from train and leaves the test split as it is. Or report the accuracy "
        "without them: evaluate.py does so for images with the same pixels, as “de-duplicated”.",
    ),
    LABEL_CONFLICT: Advice(
        "Conflicting labels",
        BAD,
        "The same image under two labels, so one of them is wrong. Near-identical ones may be two "
        "frames of a film in which the expression changes.",
        "Look and delete the wrong one. --fix removes all of a group with the same pixels from "
        "train, since nothing tells which label is right; near-identical ones stay.",
    ),
    MISLABEL: Advice(
        "Likely mislabels",
        WARN,
        "Images whose label is contradicted by networks that had not seen them, the surest first "
        "(confident learning). Some are hard or ambiguous rather than wrong.",
        "Look at the first hundreds and move what is wrong to its right folder. --fix leaves them.",
    ),
    DUPLICATE: Advice(
        "Redundant copies",
        WARN,
        "Images with the same pixels as an earlier one of the same split. They count twice in "
        "training, and in a test they count twice in the accuracy.",
        "--fix keeps the first of each in train. Copies in test stay, so that numbers remain "
        "comparable with those of others.",
    ),
    NEAR_DUPLICATE: Advice(
        "Near-duplicates",
        NOTE,
        "The same photograph within a split, brightened, shifted, stamped, compressed again or "
        "mirrored. In training they are augmentation that is already there; between train and a "
        "validation split cut from it they are a leak.",
        "Usually nothing. --fix leaves them.",
    ),
    BROKEN: Advice(
        "Broken files",
        BAD,
        "Files in class folders that cannot be used, with the reason. Training leaves them out.",
        "Fetch them again, convert or delete them. --fix leaves them out.",
    ),
    BLANK: Advice(
        "Blank images",
        BAD,
        "Images of one grey all over: no face, yet a label. The network learns a guess from them.",
        "Delete them. --fix removes them from train.",
    ),
    OUTLIER: Advice(
        "Outliers",
        NOTE,
        "Images of unusual size, shape, brightness or contrast, the most unusual first. Often "
        "drawings, screenshots or failed crops; often just a dark photograph.",
        "Look at them. --fix leaves them.",
    ),
    IMBALANCE: Advice(
        "Class balance",
        NOTE,
        "Classes with fewer than a fifth of the images of the largest one, or with none. Accuracy "
        "hardly notices when a network never answers with a rare class; macro F1 does.",
        "Collect more, or train with --training.class_weights balanced, and judge by macro F1.",
    ),
}
