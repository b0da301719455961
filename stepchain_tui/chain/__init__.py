"""Chains of tool calls (document 003): a face of the engine, with the tools that do best found first."""
