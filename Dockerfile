# One image for all services of this project; docker-compose.yml sets the commands. It needs no compiler: all packages of
# requirements-deploy.lock are wheels, for x86-64 and ARM.
ARG PYTHON=3.12.11-slim-bookworm

FROM python:${PYTHON} AS builder
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements-deploy.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r requirements-deploy.lock
COPY pyproject.toml README.md LICENSE dagster.yaml workspace.yaml ./
COPY heimdall_pipelines heimdall_pipelines
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels . \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps wheels/*.whl \
    && /opt/venv/bin/pip uninstall --yes pip

FROM python:${PYTHON}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin heimdall \
    && install --directory --owner=10001 --group=10001 /var/cache/heimdall
COPY --from=builder /opt/venv /opt/venv
WORKDIR /opt/heimdall
COPY dagster.yaml deploy/workspace.yaml ./
# Processes may write to /tmp and to the cache, which keeps numba's compiled code and matplotlib's list of fonts.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/heimdall \
    MPLCONFIGDIR=/var/cache/heimdall/matplotlib \
    NUMBA_CACHE_DIR=/var/cache/heimdall/numba \
    HEIMDALL_TERRAIN_FOLDER=/var/cache/heimdall/terrain
USER 10001:10001
CMD ["heimdall", "--help"]
