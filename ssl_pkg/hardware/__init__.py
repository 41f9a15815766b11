"""What a run computes on: CPU cores, GPUs, number formats, memory, compiled kernels."""
