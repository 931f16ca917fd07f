"""AlphaMesh execution and risk core: pure NumPy, Numba and CuPy.

Imports no protobuf, no gRPC and no service code. Integers (ticks and lots)
wherever money moves; every kernel has a slow, obvious reference twin in tests/.
"""
