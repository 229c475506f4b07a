"""How a message gets into the queue: the commit, those who may make it and those who ask for it."""
