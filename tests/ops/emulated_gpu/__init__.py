"""A GPU on paper: runs the PTX that Triton compiles on CPU tensors, and watches what a GPU would not.

Triton's interpreter runs the Python of a kernel; what the compiler makes of it (layouts, pipelines, inline assembly) it
never sees. Here the compiled kernel runs: all threads of a program in step, with NumPy, and each access to memory is
checked to be inside what the kernel was given, aligned, and ordered by a barrier after another warp's.

    parsing       PTX as instructions in basic blocks
    arithmetic    instructions that each thread does for itself
    exchange      those of a warp: shuffles, products on tensor cores
    memory        global and shared memory, with their checks
    machine       programs: control flow, barriers, and the launch
    driver        in place of Triton's driver for CUDA

Products on tensor cores are rounded once, and those of `wgmma` are there at once; how long anything takes is not told.
Facts: PTX ISA 8.7.
"""
