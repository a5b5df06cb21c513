"""Latency, frames a second and memory of ``scripts/webcam.py`` under clients that have cameras.

Example: python tests/serving/measure.py --clients 1 8 --browser

A client sends a frame of 480 x 360 of a film of one face, waits for the answer, and sends the next
when its camera, of 30 frames a second, has one. ``--browser`` adds what the page itself shows.
"""

import argparse
import asyncio
import io
import json
import math
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from servers import Process
from websockets.asyncio.client import connect

RATE = 30.0  # frames a second
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox")


def film(width, height, count=30):
    """JPEG files: a face that sways before a grey wall."""
    face = Image.fromarray(skimage.data.astronaut()).resize((height, height))
    for i in range(count):
        frame = Image.new("RGB", (width, height), (70, 80, 95))
        sway = math.sin(2 * math.pi * i / count) / 32
        frame.paste(face, (round((width - height) / 2 + sway * width), 0))
        buffer = io.BytesIO()
        frame.save(buffer, "JPEG", quality=85)
        yield buffer.getvalue()


async def client(url, frames, seconds):
    """Latencies, in seconds."""
    latencies = []
    async with connect(url, compression=None) as socket:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            await socket.send(frames[len(latencies) % len(frames)])
            answer = json.loads(await socket.recv())
            assert len(answer["faces"]) == 1
            latencies.append(time.perf_counter() - start)
            await asyncio.sleep(max(0.0, math.ceil(latencies[-1] * RATE) / RATE - latencies[-1]))
    return latencies


async def crowd(url, count, seconds):
    frames = list(film(480, 360))
    await asyncio.gather(*(client(url, frames, 2.0) for _ in range(count)))
    return await asyncio.gather(*(client(url, frames, seconds) for _ in range(count)))


def memory(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def in_a_browser(url, seconds):
    from playwright.sync_api import sync_playwright

    with tempfile.NamedTemporaryFile(suffix=".mjpeg") as file, sync_playwright() as playwright:
        file.write(b"".join(film(640, 480)))
        file.flush()
        switches = [*CAMERA, f"--use-file-for-fake-video-capture={file.name}"]
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=switches)
        page = browser.new_page()
        page.goto(url)
        page.locator(".box:visible").first.wait_for()
        titles, texts = [], []
        for _ in range(round(seconds / 2)):  # the page's numbers are of two seconds
            page.wait_for_timeout(2000)
            titles.append(
                int(re.findall(r"\d+(?= ms)", page.locator("#latency").get_attribute("title"))[0])
            )
            texts.append(
                [page.locator(name).inner_text() for name in ("#latency", "#fps", "#label")]
            )
        browser.close()
    return np.median(titles), texts[len(texts) // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", default="ferplus")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--browser", action="store_true")
    args = parser.parse_args()
    with Process("--checkpoint", args.checkpoint, "--port", 0) as server:
        socket = re.sub("^http", "ws", server.url) + "ws"
        for count in args.clients:
            before = memory(server.process)
            latencies = asyncio.run(crowd(socket, count, args.seconds))
            all_of_them = 1000 * np.concatenate(latencies)
            middle, high = np.quantile(all_of_them, [0.5, 0.95])
            print(
                f"{count} clients: median {middle:.0f} ms, p95 {high:.0f} ms, "
                f"{len(all_of_them) / count / args.seconds:.1f} frames a second each, "
                f"{len(all_of_them)} frames; memory {before:.0f} -> "
                f"{memory(server.process):.0f} MiB",
                flush=True,
            )
        if args.browser:
            p95, (latency, fps, label) = in_a_browser(server.url, args.seconds)
            print(f"in Chromium: median {latency}, p95 {p95} ms, {fps} frames a second, {label}")


if __name__ == "__main__":
    main()
