"""Recording files of the field (KiwiSDR WAV, SigMF, .npy, raw) as streams of complex64 blocks, and files of heights.

Files only: no database, no object store, no signal processing beyond scaling integers to floats.
"""
