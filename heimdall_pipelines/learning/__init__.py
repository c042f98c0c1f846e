"""Released datasets for learning: files, splits, arrays, PyTorch data sets and baselines, without any server.

Needs numpy, scipy, pyproj and pyarrow; scikit-learn for the baselines that learn, PyTorch for `torch_data`.
"""
