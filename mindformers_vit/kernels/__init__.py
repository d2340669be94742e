"""Operators of our own for the CPU, compiled for the machine at first use.

`library` compiles and loads them, `cells` gives them to MindSpore with their gradients. Where they
cannot be had the layers use MindSpore's operators; one line of the log says why.
"""
