"""The graph's nodes, one file and one public function each."""
