"""What the server answers, as its OpenAPI document has it."""

from typing import Annotated

from pydantic import BaseModel, Field

from emotion_jax.inference.recognizer import Result

Probability = Annotated[float, Field(ge=0, le=1)]


class FaceAnswer(BaseModel):
    """A face and its expression."""

    box: Annotated[list[float], Field(min_length=4, max_length=4)] = Field(
        description="x, y, width and height in pixels of the upright picture"
    )
    det_score: Probability = Field(description="the detector's confidence")
    landmarks: list[tuple[float, float]] | None = Field(
        description="x and y of the eye on the left, the other eye, the nose, the mouth's corners"
    )
    label: str = Field(description="the most probable class")
    score: Probability = Field(description="its probability")
    probs: dict[str, Probability] = Field(description="of every class")
    abstained: bool = Field(description="whether the score is too low to be named")


class CheckpointAnswer(BaseModel):
    """A checkpoint that can be asked for."""

    name: str
    classes: list[str] = Field(description="in the order of the probabilities")


class FrameAnswer(BaseModel):
    """What the WebSocket sends for a frame."""

    frame: int = Field(description="its number among those that were sent, from 0")
    faces: list[FaceAnswer] = Field(description="largest first")
    ms: float = Field(description="milliseconds in the server, waiting included")


class Fault(BaseModel):
    """Why there is no answer."""

    detail: str


def faces(result: Result) -> list[dict[str, object]]:
    """The faces of a result as plain values."""
    return [face.to_dict() for face in result.faces]
