"""Published defences of models of images and texts. The text tower is frozen for all of them, as for our method."""
