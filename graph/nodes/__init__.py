"""The graph's nodes: one file and one public function each.

Import a node from its own module, as ``graph.build`` does: the module and the function have the same name.
"""
