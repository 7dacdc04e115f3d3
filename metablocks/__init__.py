"""metablocks: a language for MetaFormer vision networks, a compiler for it, and a bench."""
