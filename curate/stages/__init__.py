"""The stages of a run: what each item of `stages:` becomes, and those that the engine adds itself."""
