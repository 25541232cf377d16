"""Markov models of text: counted n-grams, smoothed, and the ARPA files that hold them."""
