# Two images: `--target api` without torch, `--target worker` with it. CPU or CUDA: see TORCH_INDEX_URL.
# Every pip line holds to constraints.txt, the versions that were tested together: two builds of a commit are the same.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --home-dir /data --create-home kiln
WORKDIR /app

FROM base AS venv
RUN python -m venv /venv
COPY constraints.txt ./

# Before pyproject.toml, so that a change of that does not fetch gigabytes again
FROM venv AS torch
# Empty: pip's own default, on Linux the CUDA build. The index of a CPU build makes the image several GB smaller. torch
# alone comes from there: of what it stands on, such an index has other versions than those that we want.
ARG TORCH_INDEX_URL=""
RUN pip install --no-cache-dir --no-deps torch==2.13.0 ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
 && pip install --no-cache-dir -c constraints.txt torch==2.13.0

# What each image installs. Only pyproject.toml is looked at, so a change of our code keeps these layers.
FROM venv AS requirements
COPY pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], sep='\n', file=open('api.txt', 'w')); \
print(*project['optional-dependencies']['worker'], sep='\n', file=open('worker.txt', 'w'))"

FROM venv AS api-packages
COPY --from=requirements /app/api.txt ./
RUN pip install --no-cache-dir -c constraints.txt -r api.txt

FROM torch AS worker-packages
COPY --from=requirements /app/*.txt ./
RUN pip install --no-cache-dir -c constraints.txt -r api.txt -r worker.txt

FROM venv AS wheel
COPY pyproject.toml README.md ./
COPY api/ api/
COPY client/ client/
COPY common/ common/
COPY demo/ demo/
COPY migrations/ migrations/
COPY worker/ worker/
RUN PIP_CONSTRAINT=constraints.txt pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM base AS api
COPY --from=api-packages /venv /venv
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps /wheel/*.whl
USER kiln
CMD ["python", "-m", "api", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
# For KILN_COMPILE: torch writes C++ for CPUs, and Triton C for CUDA
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY --from=worker-packages /venv /venv
RUN --mount=from=wheel,source=/wheel,target=/wheel pip install --no-cache-dir --no-deps /wheel/*.whl
USER kiln
CMD ["python", "-m", "worker"]
