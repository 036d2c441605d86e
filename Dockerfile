# syntax=docker/dockerfile:1
# Stages: base (no GPU libraries) -> api (web process, sweeper, migrations), worker (computes; CUDA build of torch).
FROM python:3.12-slim-bookworm AS base
ENV PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ASSAY_DATA_DIR=/data
WORKDIR /app
RUN groupadd --gid 10001 assay \
    && useradd --uid 10001 --gid assay --no-create-home --home-dir /data assay \
    && install -d -o assay -g assay /data
COPY pyproject.toml README.md alembic.ini ./
COPY api ./api
COPY core ./core
COPY worker ./worker
COPY migrations ./migrations

# The API process never imports torch; the small CPU build satisfies the package's requirements without CUDA.
FROM base AS api
# pyproject.toml holds the version ranges.
# hadolint ignore=DL3013
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install '.[postgres]'
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["assay", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
# pyproject.toml holds the version ranges.
# hadolint ignore=DL3013
RUN pip install '.[postgres]'
USER 10001:10001
VOLUME /data
CMD ["assay", "worker"]
