"""Fused kernels for GPUs, each beside a slow, readable twin in plain PyTorch, which says what it computes.

Each is one operation to torch: `torch.compile` and `torch.export` keep it whole, and counters of floating-point
operations know it. Triton is imported where a kernel runs, not before.
"""
