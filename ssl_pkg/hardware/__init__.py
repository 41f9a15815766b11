"""The hardware of a run: CPU cores, GPUs, precision, memory, torch.compile."""
