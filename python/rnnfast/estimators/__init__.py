"""Estimators with the habits of scikit-learn: a classifier of sequences and forecasters of series."""
