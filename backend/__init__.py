"""The edge: HTTP, processes, configuration. Imports illume_plugin, never the other way round."""
