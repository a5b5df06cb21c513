"""Every setting, by section: strict and frozen. ``config`` reads and writes them."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Range = tuple[float, float]


def _place(path: Path | None) -> Path | None:
    if path is None:
        return None
    # Not Path.expanduser, which raises where there is no such user. Checked before as well: names
    # that no file could hold may be more than os.path.expanduser bears.
    return _writable(Path(os.path.expanduser(_writable(path))))


def _writable(path: Path) -> Path:
    # Such a name could be used, but no TOML or JSON file of the run could hold it.
    if not re.fullmatch(r"[^\0\ud800-\udfff]*", str(path)):
        raise ValueError("a name that is not valid UTF-8; rename the folder")
    return path


Place = Annotated[Path | None, pydantic.AfterValidator(_place)]


class Settings(pydantic.BaseModel):
    """Base of every section: frozen, no unknown keys, no NaN."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AugmentSettings(Settings):
    """Random changes of a training image. A range of zero switches its change off."""

    rotation: float = Field(0.0, ge=0.0, le=180.0)
    """Largest rotation either way, degrees."""
    shift: Fraction = 0.0
    """Largest shift either way, as a fraction of the side."""
    shear: float = Field(0.0, ge=0.0, lt=90.0)
    """Largest shear angle either way, degrees (Keras' shear_range)."""
    zoom: float = Field(0.0, ge=0.0, lt=1.0)
    """Height and width are scaled by factors from [1 - zoom, 1 + zoom] (Keras' zoom_range)."""
    flip: bool = False
    """Mirror half of the images left to right."""
    brightness: float = Field(0.0, ge=0.0, lt=1.0)
    """Grey values are multiplied by a factor drawn from [1 - b, 1 + b]."""
    contrast: float = Field(0.0, ge=0.0, lt=1.0)
    """The distance from mid-grey is multiplied by a factor drawn from [1 - c, 1 + c]."""
    blur: float = Field(0.0, ge=0.0, le=8.0)
    """Half of the images are blurred by a Gaussian whose standard deviation, in pixels, is drawn up
    to this. Teachers see them sharp."""
    noise: float = Field(0.0, ge=0.0, le=128.0)
    """Half of the images get Gaussian noise whose standard deviation, in grey levels, is drawn up
    to this. Teachers see them without."""
    erase: Fraction = 0.0
    """Probability that a random rectangle is greyed out (random erasing)."""
    erase_area: Range = (0.02, 0.2)
    """Smallest and largest area of that rectangle, as a fraction of the image."""

    @pydantic.field_validator("erase_area")
    @classmethod
    def _ordered(cls, area: Range) -> Range:
        if not 0.0 < area[0] <= area[1] <= 1.0:
            raise ValueError("needs 0 < smallest <= largest <= 1")
        return area


class DataSettings(Settings):
    """Where the images are and how batches are made of them."""

    dir: Place = None
    """Folder with train/<class>/ and test/<class>/, a .zip or .tar of one, or fer2013.csv.
    None: the embedded synthetic faces."""
    stage_to: Place = None
    """Copy the data to this local folder first, verified (for Google Drive and network disks)."""
    pipeline: Literal["tfdata", "resident"] = "tfdata"
    """tfdata: tf.data on the host; resident: the data set in device memory, no TensorFlow."""
    image_size: int = Field(48, ge=8, le=1024)
    """Side of the square that images are resized to, pixels."""
    channels: Literal[1, 3] = 1
    """1: grey; 3: RGB."""
    validation_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    """Share of train that is held out to choose the best step (stratified)."""
    votes: Place = None
    """FER+ votes (CSV) in place of the folders' labels; the classes are then its eight."""
    vote_protocol: Literal["majority", "distribution"] = "distribution"
    """What the train split learns from them (Barsoum et al. 2016); it is measured by majority."""
    split_seed: int = Field(0, ge=0)
    """Seed of that split; apart from training.seed, so that seeds share a validation split."""
    pixel_cap: int = Field(40_000_000, ge=64)
    """Images with more pixels are refused."""
    memory_limit: float = Field(4.0, gt=0.0)
    """Decoded images up to this many GiB are held in memory; more are read from disk as needed."""
    workers: int = Field(0, ge=0)
    """Threads that read images; 0: chosen for the machine."""
    augment: AugmentSettings = AugmentSettings()


class ModelSettings(Settings):
    """The network. Each backbone reads what applies to it."""

    name: str = "cnn"
    """A name in emotion_jax.models.MODELS."""
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((64, 128, 256, 512), min_length=1)
    """Channels of each block; their number is the depth. Of mini_xception and fernet the first is
    the stem's."""
    convolutions: int = Field(1, ge=1)
    """Convolutions in a block of cnn and vgg, residual blocks in a stage of the others."""
    dense: tuple[Annotated[int, Field(ge=1)], ...] = (256,)
    """Units of the hidden dense layers of the head."""
    dropout: float = Field(0.25, ge=0.0, lt=1.0)
    """Dropout rate after each block, or each stage of residual blocks."""
    dense_dropout: float = Field(0.5, ge=0.0, lt=1.0)
    """Dropout rate after each hidden dense layer; of the others before the logits."""
    activation: Literal["relu", "gelu"] = "relu"
    """Of resnet, mini_xception and fernet."""
    squeeze: int = Field(0, ge=0)
    """Channels by hidden unit of squeeze-and-excitation in residual blocks; 0: none."""
    drop_path: float = Field(0.0, ge=0.0, lt=1.0)
    """Stochastic depth: rate at which the last residual block is skipped, falling to 0 at the
    first."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters and statistics stay float32."""


class TrainingSettings(Settings):
    """The optimisation and what is kept of it."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1)
    """Images a step, over all devices."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the initial parameters, the order of the images, their augmentation, and dropout."""
    optimizer: str = "adam"
    """A name in emotion_jax.training.optimizer.OPTIMIZERS."""
    learning_rate: float = Field(1e-3, gt=0.0)
    schedule: str = "constant"
    """A name in emotion_jax.training.optimizer.SCHEDULES."""
    warmup_epochs: float = Field(0.0, ge=0.0)
    """Linear warm-up before the schedule."""
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Nesterov momentum of sgd and muon."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Decoupled, on kernels alone."""
    clip_norm: float = Field(0.0, ge=0.0)
    """Largest global norm of the gradient; 0: no clipping."""
    average: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay of the moving average of the weights, which is what is then measured and used; 0: none.
    """
    mixup: float = Field(0.0, ge=0.0)
    """Parameter of the Beta distribution of mixup's shares; 0: no mixup."""
    cutmix: float = Field(0.0, ge=0.0)
    """The same of CutMix."""
    init_from: str = ""
    """Begin with the weights of this checkpoint (a workdir, a step's directory, a .safetensors
    file, or a name of shipped weights); its last layer is taken if the classes are the same. Empty:
    random weights."""
    frozen_epochs: float = Field(0.0, ge=0.0)
    """Epochs for which only the last layer learns."""
    teachers: tuple[str, ...] = ()
    """Checkpoints of the same classes, whose mean is learnt as well (knowledge distillation)."""
    distillation: Fraction = 0.5
    """Their share in what is learnt; the rest is the labels'."""
    start_size: int = Field(0, ge=0)
    """Side of the images in the first epoch, pixels; it grows to data.image_size. 0: no growth."""
    grow_epochs: float = Field(0.0, ge=0.0)
    """Epochs until then."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: an image's loss is weighted by n / (classes * n of its class)."""
    selection: Literal["best", "last"] = "best"
    """The step that is reported on and used: the best by validation accuracy, or the last epoch's.
    """
    patience: int = Field(0, ge=0)
    """Stop after this many epochs without a better one (by validation accuracy, then loss); 0:
    never."""
    keep_latest: int = Field(2, ge=1)
    """Newest checkpoints kept."""
    keep_best: int = Field(2, ge=1)
    """Best checkpoints by validation accuracy kept, or newest where the last epoch is selected."""
    save_minutes: float = Field(10.0, gt=0.0)
    """Also save within an epoch when the last save is this old."""
    backup_to: Place = None
    """Also archive the newest and the best checkpoint in this folder (Google Drive); a run whose
    workdir is lost goes on from there."""
    backup_minutes: float = Field(10.0, ge=0.0)
    """Between archives."""
    steps_per_dispatch: int = Field(0, ge=0)
    """Steps in one call of the device (resident pipeline); 0: chosen for the backend. A signal or
    a save waits for the end of a call."""


class LoggingSettings(Settings):
    """What is shown while it trains."""

    progress: bool = True
    """Progress bars on stderr."""
    tensorboard: bool = True
    every_steps: int = Field(20, ge=1)
    """Steps between looks at the loss (progress bar, TensorBoard, the check for NaN)."""


class Config(Settings):
    """All settings of a run."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    logging: LoggingSettings = LoggingSettings()
