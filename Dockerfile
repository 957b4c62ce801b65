# One target a service, each with the libraries of that service only. docker-compose.yml builds them:
#   docker build --target scorer --tag fraud-scoring-scorer:0.1.0 .
# Checked against the code's imports, extras and commands by tests/contract/test_dockerfile.py.

# The image that everything stands on. A tag can be moved: for production name the digest that you have verified,
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... (docs/operating.md)
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/fraud
RUN groupadd --gid 10001 fraud \
    && useradd --uid 10001 --gid fraud --no-log-init --home-dir /var/lib/fraud fraud \
    && mkdir --parents /models /var/lib/fraud/archive /var/cache/fraud \
    && chown --recursive fraud:fraud /models /var/lib/fraud /var/cache/fraud
WORKDIR /var/lib/fraud

# Compiled kernels are kept beside no source: /var/cache/fraud is written here and read at the start.
# Every package has a version and hashes in requirements.lock, those that build ours included, and nothing else is installed.
FROM base AS build
ENV VIRTUAL_ENV=/opt/venv \
    UV_NO_CACHE=1
WORKDIR /src
COPY requirements.lock requirements-installer.lock pyproject.toml README.md LICENSE ./
RUN python -m venv --without-pip /opt/venv \
    && python -m venv /opt/installer \
    && /opt/installer/bin/python -m pip install --no-cache-dir --require-hashes --requirement requirements-installer.lock \
    && ln --symbolic /opt/installer/bin/uv /usr/local/bin/uv
COPY schemas schemas
COPY runtime runtime

FROM build AS stream-features-build
COPY stream_features stream_features
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra stream \
    && uv pip install --no-deps --build-constraint requirements.lock .
WORKDIR /var/lib/fraud
RUN python -m stream_features compile

FROM build AS scorer-build
COPY stream_features stream_features
COPY scorer scorer
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml \
    && uv pip install --no-deps --build-constraint requirements.lock .
WORKDIR /var/lib/fraud
RUN python -m scorer compile

FROM build AS gateway-build
COPY database database
COPY stream_features stream_features
COPY scorer scorer
COPY gateway gateway
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra gateway \
    && uv pip install --no-deps --build-constraint requirements.lock .

FROM build AS store-build
COPY database database
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra database \
    && uv pip install --no-deps --build-constraint requirements.lock .

FROM build AS archive-build
COPY stream_features stream_features
COPY scorer scorer
COPY trainer trainer
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra archive \
    && uv pip install --no-deps --build-constraint requirements.lock .

FROM build AS trainer-build
COPY stream_features stream_features
COPY scorer scorer
COPY trainer trainer
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra stream --extra trainer \
    && uv pip install --no-deps --build-constraint requirements.lock .
WORKDIR /var/lib/fraud
RUN python -m stream_features compile && python -m scorer compile

FROM build AS monitor-build
COPY stream_features stream_features
COPY scorer scorer
COPY monitor monitor
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra monitor \
    && uv pip install --no-deps --build-constraint requirements.lock .

# The dashboard's chart library comes from Maven's central repository, as for `python -m devstack fetch`.
FROM build AS charts
COPY devstack devstack
COPY dashboard dashboard
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra stack \
    && uv pip install --no-deps --build-constraint requirements.lock . \
    && python -c "from devstack.fetch.charts import fetch_charts; fetch_charts()"

FROM build AS dashboard-build
COPY database database
COPY stream_features stream_features
COPY scorer scorer
COPY --from=charts /src/dashboard dashboard
RUN uv pip install --no-build --require-hashes --constraint requirements.lock --requirement pyproject.toml --extra dashboard \
    && uv pip install --no-deps --build-constraint requirements.lock .
# The page /runbook reads it from beside the packages.
COPY docs/runbook.md /opt/venv/lib/python3.11/site-packages/docs/runbook.md

FROM base AS stream-features
COPY --from=stream-features-build /opt/venv /opt/venv
COPY --from=stream-features-build --chown=fraud:fraud /var/cache/fraud /var/cache/fraud
USER fraud
EXPOSE 8080
CMD ["python", "-m", "stream_features", "run"]

FROM base AS scorer
COPY --from=scorer-build /opt/venv /opt/venv
COPY --from=scorer-build --chown=fraud:fraud /var/cache/fraud /var/cache/fraud
USER fraud
EXPOSE 8080
CMD ["python", "-m", "scorer", "run"]

FROM base AS gateway
COPY --from=gateway-build /opt/venv /opt/venv
USER fraud
EXPOSE 8000 8080
CMD ["python", "-m", "gateway", "run"]

FROM base AS store
COPY --from=store-build /opt/venv /opt/venv
USER fraud
EXPOSE 8080
CMD ["python", "-m", "database", "store"]

FROM base AS archive
COPY --from=archive-build /opt/venv /opt/venv
USER fraud
EXPOSE 8080
CMD ["python", "-m", "trainer", "archive"]

FROM base AS trainer
COPY --from=trainer-build /opt/venv /opt/venv
COPY --from=trainer-build --chown=fraud:fraud /var/cache/fraud /var/cache/fraud
USER fraud
EXPOSE 8080
CMD ["python", "-m", "trainer", "run", "--output", "/models", "--state", "/var/lib/fraud/trainer"]

FROM base AS monitor
COPY --from=monitor-build /opt/venv /opt/venv
USER fraud
EXPOSE 8080
CMD ["python", "-m", "monitor", "run"]

FROM base AS dashboard
COPY --from=dashboard-build /opt/venv /opt/venv
USER fraud
EXPOSE 8050 8080
CMD ["python", "-m", "dashboard", "run"]
