# The webcam page's server:
#   docker build -t emotion-jax .
#   docker run --rm -p 8000:8000 emotion-jax
# With a checkpoint of yours:
#   docker run --rm -p 8000:8000 -v "$PWD/runs/NAME:/NAME:ro" emotion-jax --checkpoint /NAME ferplus
# It prints the page's address with the token that it wants; -e EMOTION_JAX_TOKEN=... sets one.
FROM python:3.13-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY configs configs
COPY emotion_jax emotion_jax
RUN pip install --no-cache-dir ".[serve]" \
 && useradd --create-home --uid 1000 emotion \
 && install --directory --owner emotion /home/emotion/cache

USER emotion
# Of the certificate and XLA's compiled programs; keep it in a volume to keep those.
ENV EMOTION_JAX_CACHE=/home/emotion/cache JAX_PLATFORMS=cpu
EXPOSE 8000
ENTRYPOINT ["emotion-jax", "webcam", "--host", "0.0.0.0", "--no-browser"]
