# The whole project in one image: `docker run IMAGE` tells how to use it, `make image` builds it. What changes seldom
# comes first, so that a change of the code builds in seconds.
FROM python:3.11-slim-bookworm

# torch.compile makes its kernels with a C++ compiler. Python's headers, which it also needs, are in the base image.
# With jemalloc a run needs less memory (ssl_pkg/hardware/memory.py).
RUN apt-get update \
    && apt-get install -y --no-install-recommends "g++=4:12.2.*" "libjemalloc2=5.3.*" \
    && rm -rf /var/lib/apt/lists/*

# The packages as locked, also those that build others. pip reads the ARG: the addresses of a mirror, or of places beside
# PyPI.
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /opt/ssl-study
COPY pyproject.toml requirements.lock ./
ARG PIP_EXTRA_INDEX_URL
RUN python -m venv /opt/venv \
    && touch README.md \
    && PIP_CONSTRAINT=/opt/ssl-study/requirements.lock \
       pip install --no-cache-dir --constraint requirements.lock ".[train,submit,report]"

# Any user can run it, also one that /etc/passwd doesn't know: nothing asks for a name or writes below a home.
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
# The first process of a container ignores signals that it has no handler for: from its first moment until it has, they
# wait. What is mounted at /runs must not be taken for the program.
ENV PYTHONSAFEPATH=1
ENTRYPOINT ["env", "--block-signal=TERM", "--block-signal=INT", "--block-signal=USR1", "--block-signal=USR2", "--block-signal=HUP", "python", "-P", "-m", "jobs.image"]
