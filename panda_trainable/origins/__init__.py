"""Where raw rows come from, with their places: files of a folder, copies from the hub, demonstrations, a part of a split."""
