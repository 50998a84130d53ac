"""A corpus as other trainers read it: the Agent-FLAN, ShareGPT and OpenAI formats, and a folder for ``datasets``."""

from agentflan_ray.corpus.export.write import FORMATS, ExportReport, export

__all__ = ["FORMATS", "ExportReport", "export"]
