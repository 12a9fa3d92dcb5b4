"""An application that is not EMIS: Faust and the engine's public names, to prove that the engine stands alone."""
