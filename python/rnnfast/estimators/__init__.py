"""scikit-learn-style estimators: a classifier of sequences and forecasters of series."""
