"""A server for language models over HTTP, to start from: ``python -m server model.safetensors``.

Read it in this order:

- ``limits``: what a request and the server may take
- ``replica``: a loaded model, and the states of its streams as rows of one array
- ``scheduler``: which streams the next step advances together
- ``streams``: which streams are open, idle, saved
- ``app``: HTTP
- ``__main__``: options and signals

``sampling`` and ``metrics`` are small helpers, and ``load`` is a load test. docs/serving.md has the description and measurements.
"""
