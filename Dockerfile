# pixpro_d2 with PyTorch for NVIDIA GPUs, as `make setup` installs it.
#
#   docker build --tag pixpro_d2 --build-arg UID=$(id -u) .
#   mkdir -p output
#   docker run --rm --gpus all --shm-size 16g --volume "$PWD/output:/workspace/output" pixpro_d2
#
# The last one runs the demo on a GPU, and leaves its pictures in output/demo.
#
# The wheels of PyTorch bring CUDA with them, so the image needs none of its own; the host needs the NVIDIA Container
# Toolkit and a driver for that CUDA (CUDA 13 of torch 2.11: driver 580 or newer). --shm-size: the data loader's
# processes hand batches over through shared memory, of which a container has 64 MB otherwise.

FROM python:3.11-slim-bookworm

# g++: torch.compile builds kernels with it. git: a test and `publish` ask it for a commit.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

# What a run writes belongs to this user, so give it the number of yours.
ARG UID=1000
# Without --no-log-init, a large number makes a log file of gigabytes.
RUN useradd --no-log-init --create-home --non-unique --uid $UID pixpro \
    && install --directory --owner pixpro /workspace /opt/venv
USER $UID
WORKDIR /workspace

# VENV: make, here and in a container, uses this environment.
# USER, HOME: another user of `docker run --user` or Kubernetes has no name here, for which PyTorch asks, and no home.
ENV VENV=/opt/venv \
    USER=pixpro \
    HOME=/tmp \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The gigabytes, installed again only when what decides them changes. setup.py reads README.md, whatever is in it.
COPY --chown=pixpro Makefile constraints.txt pyproject.toml setup.py ./
COPY --chown=pixpro pixpro_d2/__init__.py pixpro_d2/install_detectron2.py pixpro_d2/
RUN touch README.md && make setup
ENV PATH=/opt/venv/bin:$PATH

# The copied files may be newer than an environment out of the build cache, which yet is that of these files.
COPY --chown=pixpro . .
RUN touch /opt/venv/.installed

# No entry point: every command of the documentation can take this one's place, as it is.
CMD ["python", "-m", "pixpro_d2.tools.demo", "--device", "cuda"]
