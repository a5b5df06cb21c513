"""How much of the server one client may have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Caps; what is above is refused or closed.

    Attributes:
      body: bytes of a picture that is posted (413).
      frame: bytes of a frame on the WebSocket (close 1009).
      pixels: of a picture or a frame, before it is decoded (413, close 1007).
      clients: open WebSockets (503).
      connections: all open connections (503).
      pictures: that wait for their turn (503).
      head_seconds: until a request's line and headers are there (closed).
      body_seconds: until its body is there (408).
      idle_seconds: between two frames (close 1001).
      send_seconds: until a client has taken an answer (closed).
    """

    body: int = 16 * 2**20
    frame: int = 2 * 2**20
    pixels: int = 24_000_000
    clients: int = 32
    connections: int = 128
    pictures: int = 16
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    idle_seconds: float = 60.0
    send_seconds: float = 10.0
