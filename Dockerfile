# The whole project in one image. `make image` builds it, `docker run IMAGE` explains its use. The code comes last, so
# that a change of the code rebuilds only the last layers, in seconds.
FROM python:3.11-slim-bookworm

# torch.compile needs a C++ compiler on a CPU, and Python's headers, which the base image has. jemalloc reduces the memory of a run
# (ssl_pkg/hardware/memory.py).
RUN apt-get update \
    && apt-get install -y --no-install-recommends "g++=4:12.2.*" "libjemalloc2=5.3.*" \
    && rm -rf /var/lib/apt/lists/*

# PIP_CONSTRAINT also locks the packages that pip uses to build others. PIP_EXTRA_INDEX_URL, which pip reads from the
# environment, is the address of a mirror or of another index beside PyPI.
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /opt/ssl-study
COPY pyproject.toml requirements.lock ./
ARG PIP_EXTRA_INDEX_URL
RUN python -m venv /opt/venv \
    && touch README.md \
    && PIP_CONSTRAINT=/opt/ssl-study/requirements.lock \
       pip install --no-cache-dir --constraint requirements.lock ".[train,submit,report]"

# Any user can run the image, also one without an entry in /etc/passwd, because HOME, USER and the cache are set here.
RUN mkdir -m 1777 /cache
ENV HOME=/tmp USER=study XDG_CACHE_HOME=/cache PYTHONUNBUFFERED=1

COPY README.md LICENSE ssl_study_commands.py ./
COPY ssl_pkg ssl_pkg
COPY jobs jobs
COPY slurm slurm
COPY analysis analysis
RUN pip install --no-cache-dir --no-deps --no-build-isolation --force-reinstall . \
    && rm -rf build ./*.egg-info

ARG VERSION=unknown
ARG COMMIT=unknown
ENV SSL_STUDY_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="ssl-study" \
      org.opencontainers.image.description="A self-supervised-learning study, from its runs to its report" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"

USER 1000:1000
WORKDIR /runs
# The kernel discards signals for which a container's first process has no handler. Blocking them keeps them pending until
# Python has installed its handlers. PYTHONSAFEPATH prevents imports from the folder that is mounted at /runs.
ENV PYTHONSAFEPATH=1
ENTRYPOINT ["env", "--block-signal=TERM", "--block-signal=USR1", "--block-signal=USR2", "--block-signal=INT", "--block-signal=HUP", "--block-signal=QUIT", "--block-signal=ALRM", "python", "-P", "-m", "jobs.image"]
