"""MCP servers: one owner for each, over stdio and streamable HTTP, and calls of their tools."""
