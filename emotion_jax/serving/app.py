"""The server's pages, its API and its WebSocket."""

import asyncio
from collections.abc import Mapping

from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from emotion_jax import __version__
from emotion_jax.errors import listed
from emotion_jax.inference.recognizer import Result
from emotion_jax.serving import stream
from emotion_jax.serving.batcher import Busy
from emotion_jax.serving.engines import Engine
from emotion_jax.serving.guard import PAGE, Guard, Policy
from emotion_jax.serving.limits import Limits
from emotion_jax.serving.schema import CheckpointAnswer, FaceAnswer, Fault, faces

DESCRIPTION = """Names the expressions of the faces in pictures. No picture is kept.

Live frames go over a WebSocket, `/ws?checkpoint=NAME`: send the bytes of a JPEG file as a binary
message, get `{"frame": number, "faces": [...], "ms": milliseconds}` as text. Send the next frame
after the answer; of several that wait only the newest is looked at."""
FAULTS = {
    400: "the body is no picture that can be read",
    401: "the token is missing or wrong",
    403: "the request comes from a page elsewhere",
    404: "there is no such checkpoint",
    408: "the body took too long",
    413: "the body has too many bytes, or the picture too many pixels",
    415: "the Content-Type is not image/*",
    421: "the server is not known by that name",
    503: "too many pictures are waiting",
}


def build(engines: Mapping[str, Engine], policy: Policy, limits: Limits | None = None) -> ASGIApp:
    """The ASGI application.

    Args:
      engines: checkpoints by name, at least one; the first is the default.
      policy: whom it answers.
      limits: how much a client may have.
    """
    limits = limits or Limits()
    app = FastAPI(
        title="emotion_jax",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_api(app, engines, limits)
    _add_stream(app, engines, limits)

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return Guard(app, policy)


def _add_api(app: FastAPI, engines: Mapping[str, Engine], limits: Limits) -> None:
    @app.get("/api/checkpoints", tags=["api"], summary="What there is to choose from")
    def checkpoints() -> list[CheckpointAnswer]:
        return [
            CheckpointAnswer(name=name, classes=list(engine.classes))
            for name, engine in engines.items()
        ]

    @app.post(
        "/api/predict",
        tags=["api"],
        summary="The faces in a picture, largest first",
        response_model=list[FaceAnswer],
        responses={code: {"model": Fault, "description": why} for code, why in FAULTS.items()},
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": f"a JPEG, PNG, WebP or BMP file of at most "
                f"{limits.body / 2**20:g} MiB and {limits.pixels / 1e6:g} million pixels",
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def predict(request: Request, checkpoint: str = "") -> JSONResponse:
        engine = _engine(engines, checkpoint)
        if engine is None:
            names = listed(list(engines))
            raise HTTPException(404, f"There is no checkpoint {checkpoint[:80]!r}, only {names}.")
        if not request.headers.get("content-type", "").lower().startswith("image/"):
            raise HTTPException(415, "Send a picture as the body, with Content-Type: image/jpeg.")
        result = await _look(engine, await _body(request, limits))
        return JSONResponse(faces(result))


async def _look(engine: Engine, picture: bytes) -> Result:
    try:
        result = await engine.pictures(picture)
    except Busy:
        raise HTTPException(503, "Too many pictures are waiting.", {"Retry-After": "1"}) from None
    if result.error is not None:
        status = 413 if "pixel cap" in result.error else 400
        raise HTTPException(status, f"The picture cannot be read: {result.error}.")
    return result


async def _body(request: Request, limits: Limits) -> bytes:
    """The whole body; connections whose body is not taken to its end are closed by the server."""
    length = request.headers.get("content-length", "0")
    parts, size = list[bytes](), int(length) if length.isdecimal() else 0
    if size > limits.body:
        raise HTTPException(413, f"A picture may have {limits.body} bytes.")
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.body:
                    raise HTTPException(413, f"A picture may have {limits.body} bytes.")
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, "The picture took too long.", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "The client has gone.") from None
    return b"".join(parts)


def _add_stream(app: FastAPI, engines: Mapping[str, Engine], limits: Limits) -> None:
    clients = set[WebSocket]()

    @app.websocket("/ws")
    async def frames(socket: WebSocket, checkpoint: str = "") -> None:
        engine = _engine(engines, checkpoint)
        if engine is None or len(clients) >= limits.clients:
            known = engine is not None
            fault = {"detail": "Too many clients." if known else "There is no such checkpoint."}
            await socket.send_denial_response(JSONResponse(fault, 503 if known else 404))
            return
        clients.add(socket)
        try:
            await socket.accept()
            await stream.serve(socket, engine.frames, limits)
        finally:
            clients.discard(socket)


def _engine(engines: Mapping[str, Engine], name: str) -> Engine | None:
    return engines.get(name or next(iter(engines)))
