"""Policy: the model that orchestrators push, its validation, its documents and its store."""
