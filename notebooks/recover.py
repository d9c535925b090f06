# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Recover: a map, a table of ratings, a quantum state
#
# In Colab, clone the repository, change into it and run the next cell. It installs without upgrading JAX, so the
# accelerator's own build stays.

# %%
import importlib.util
import os

if importlib.util.find_spec("equinox") is None:
    # %pip install -q -e .
    pass

tiny = "GPSENSE_TINY" in os.environ  # a fraction of the size, for tests

# %% [markdown]
# `recover` finds a matrix of low rank from linear measurements of it, rank and noise unknown, nothing to tune. The same
# from a shell: `python -m launch.recover FILE`, which writes factors, `summary.json`, figures and a page.
#
# | the file, or the arrays | what is recovered |
# |---|---|
# | `A` (n, d, d), `x` (n, d) for `A_i = x_i x_i^H`, or `rows`, `cols` (n,) for entries, with the values `y` (n,) | `U U^H`, real or complex (phase retrieval) |
# | columns `i,j,distance2` (squared) or `i,j,distance` (plain), points by number or name | points |
# | columns `pauli,value` (words such as XIZ; `--trace 1`) | a quantum state |
# | columns `row,col,value` (numbers or names), or `A` (n, rows, columns) | `U V^T`, with offsets of rows and columns where they help |
#
# Arrays come as `.npz` or `.mat`, columns as `.csv` or `.parquet`; `--row user --col film --value stars` names them. A wide table, labels in its first column and its header, is read as it is.
#
# ## A map from distances
#
# 72 European cities; 30 % of the pairwise squared distances, each with 2 % noise. Points in a plane have a Gram matrix
# of rank 2, which the method is not given.

# %%
import numpy as np

from gpsense import recover
from gpsense.plots import plot_fit, plot_map, plot_ranks
from launch import cities

example = cities.example(share=0.3, noise=0.02, seed=0)
found = recover(example.fields)
print(f"rank {found.rank}, chosen by {found.chosen_by}; {found.measurements} values, {found.unknowns} unknowns")
axes = plot_map(example.names, example.places, example.aligned(found.factor))

# %% [markdown]
# How the rank was found: columns enter along a path of falling penalties, shrink under the smoothed group lasso's weights
# and are pruned. The rank is the one that explains the values to rounding with fewer numbers than there are values, or
# else the one at which the residual looks like noise; where neither speaks, the one that predicts held-out values best.
# `rank_share` is the share of resamples that choose the same rank.

# %%
print(found.rank_share)
axes = plot_ranks(found)

# %% [markdown]
# ## A table of ratings
#
# Rows and columns may have names. Here 40 people rate 25 films, 40 % of the table is missing, and 1 % of the ratings are
# outliers: these are found and left out. The truth has rank 3: one column of taste, and how kind a person and how good a
# film is. `offsets=True` fits the last two as offsets of rows and columns, which then do not count towards the rank; by
# default held-out values decide.

# %%
import pandas as pd

rng = np.random.default_rng(0)
people, films = (np.array([f"{word} {i:02}" for i in range(count)]) for word, count in (("person", 40), ("film", 25)))
taste = rng.normal(size=(40, 1)) @ rng.normal(size=(25, 1)).T
truth = 3 + rng.normal(size=(40, 1)) + rng.normal(size=25) + taste
row, col = np.nonzero(rng.uniform(size=truth.shape) < 0.6)
stars = truth[row, col] + 0.2 * rng.normal(size=row.size)
wild = rng.uniform(size=row.size) < 0.01
stars[wild] += 10
ratings = pd.DataFrame({"row": people[row], "col": films[col], "value": stars})
found = recover(ratings)
print(f"rank {found.rank}, noise {found.noise:.2f}, {len(found.outliers)} of {len(stars)} values left out")
print(f"error of all entries: {np.sqrt(np.mean((found.matrix - truth) ** 2)):.3f}")
value, error = found.entries(["person 03"], ["film 07"])[0], found.standard_errors(["person 03"], ["film 07"])[0]
print(f"person 03 on film 07: {value:.2f} +- {1.96 * error:.2f}, truly {truth[3, 7]:.2f}")

# %%
axes = plot_fit(found, found.entries(people[row], films[col]), stars)

# %% [markdown]
# What the data cannot determine is said, and has infinite standard errors: rows without a measurement, parts that
# nothing connects, fewer independent measurements than unknowns.

# %%
row, col = np.nonzero(np.kron(np.eye(2), np.ones((10, 8))))  # two groups of rows that share no column
value = (rng.normal(size=(20, 1)) @ rng.normal(size=(1, 16)))[row, col] + 0.01 * rng.normal(size=row.size)
found = recover({"row": row, "col": col, "value": value}, offsets=False)
print("; ".join(found.undetermined))
print(found.standard_errors([0, 0], [0, 12]))

# %% [markdown]
# ## A quantum state
#
# Three qubits in a nearly pure state; expectations of 40 of the 64 Pauli words, each with noise 0.02. The trace is known.

# %%
from itertools import product

words = np.array(["".join(letters) for letters in product("IXYZ", repeat=3)])
letters = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}
psi = rng.normal(size=8) + 1j * rng.normal(size=8)
psi /= np.linalg.norm(psi)
state = np.outer(psi, psi.conj())
measured = words[np.sort(rng.permutation(64)[:40])]
matrix = lambda word: np.kron(np.kron(letters[word[0]], letters[word[1]]), letters[word[2]])
values = np.array([np.trace(matrix(word) @ state).real for word in measured]) + 0.02 * rng.normal(size=40)
found = recover({"pauli": measured, "value": values}, trace=1.0)
print(f"rank {found.rank}, fidelity {(psi.conj() @ found.matrix @ psi).real:.4f}")

# %% [markdown]
# ## Measurements of your own
#
# Any linear measurements `y_i = <A_i, X>`: matrices `A` (n, d, d), vectors `x` for `A_i = x_i x_i^H` (phase retrieval),
# or a map of `gpsense` with its values.

# %%
signal = rng.normal(size=16) + 1j * rng.normal(size=16)
x = rng.normal(size=(120, 16)) + 1j * rng.normal(size=(120, 16))
intensities = np.abs(x.conj() @ signal) ** 2
found = recover({"x": x, "y": intensities})
overlap = abs(np.vdot(signal, found.factor[:, 0])) / np.linalg.norm(signal) / np.linalg.norm(found.factor)
print(f"rank {found.rank}, chosen by {found.chosen_by}; overlap with the signal {overlap:.6f}")

# %% [markdown]
# ## How far to trust it
#
# Units do not matter, repeated measurements are merged, outliers are left out (tried with 5 % of them; in tables with
# barely three values per unknown they can still spoil the answer). On 300 random problems
# (`tests/recovery/test_trial.py`: Gaussian, rank-one, entries, distances, Pauli; 1.5 to 8 measurements an unknown; noise
# up to 30 %) the error was that of least squares given the true rank in the median, at most 1.25 times it in 99 %, and
# the rank was right in 96 % of those in which that least squares has a relative error below 10 %; on 20 tables with
# offsets (2 to 6 measurements an unknown) the error was always at most 1.25 times it. A 1000 x 1000 matrix of rank 5
# and condition 10 is recovered exactly from 1.35 times as many entries as it has unknowns. Where the noise grows with
# the values, each is weighted by one over its variance, which is fitted to the residuals; a notice says so. The method runs in NumPy on the CPU. It is derived
# here, in the second-order form of the paper's pipeline, and its constants were set on problems like these.
