"""The protocols that clients speak: one module or package each, and the registry that names them."""
