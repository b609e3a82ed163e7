// Anchors the library until the first real source of this room.
