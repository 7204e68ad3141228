# Two images: `--target api` without torch, `--target worker` with it. CPU or CUDA: see TORCH_INDEX_URL.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --home-dir /data --create-home kiln
WORKDIR /app

# What each image installs. Only pyproject.toml is looked at, so a change of our code keeps these layers.
FROM base AS api-packages
RUN python -m venv /venv
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
      > api.txt \
 && pip install --no-cache-dir -r api.txt

FROM api-packages AS worker-packages
# Empty: pip's own default, on Linux the CUDA build. The index of a CPU build makes the image several GB smaller.
ARG TORCH_INDEX_URL=""
RUN pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}
RUN python -c "import tomllib; \
print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['worker'], sep='\n')" \
      > worker.txt \
 && pip install --no-cache-dir -r worker.txt

FROM base AS wheel
COPY pyproject.toml README.md ./
COPY api/ api/
COPY client/ client/
COPY common/ common/
COPY demo/ demo/
COPY migrations/ migrations/
COPY worker/ worker/
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM base AS api
COPY --from=api-packages /venv /venv
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps /wheel/*.whl
USER kiln
CMD ["python", "-m", "api", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
COPY --from=worker-packages /venv /venv
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps /wheel/*.whl
USER kiln
CMD ["python", "-m", "worker"]
