# The worker and every other command: `docker build -t emis-streams .`, `docker run emis-streams --help`.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS build
COPY requirements/uv.txt requirements/runtime.txt /build/requirements/
RUN python -m venv /build/uv \
    && /build/uv/bin/python -m pip install --quiet --no-cache-dir --require-hashes -r /build/requirements/uv.txt \
    && python -m venv --without-pip /opt/emis-streams \
    && /build/uv/bin/uv pip sync --quiet --no-cache --compile-bytecode --python /opt/emis-streams \
        --require-hashes /build/requirements/runtime.txt
COPY setup.py setup.cfg README.md LICENSE /build/
COPY emis_streams /build/emis_streams
COPY agents /build/agents
COPY tables /build/tables
COPY web /build/web
RUN /build/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/emis-streams \
        --no-deps --no-build-isolation /build

FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
COPY --from=build /opt/emis-streams /opt/emis-streams
# One data folder per container: tables and read model are this worker's own.
RUN useradd --system --uid 10001 --create-home emis && install -d -o emis -g emis /data
USER emis
WORKDIR /data
VOLUME /data
ENV PATH=/opt/emis-streams/bin:$PATH PYTHONUNBUFFERED=1 DATA_DIR=/data HOST=0.0.0.0 PORT=6066
EXPOSE 6066
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["emis-streams"]
CMD ["worker"]
