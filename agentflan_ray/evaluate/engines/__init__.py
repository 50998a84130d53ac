"""Engines: what answers requests. ``transformers`` in this process, ``openai`` over HTTP, ``vllm`` as a server."""
