"""What every translator of profiles shares: the dictionary, build ids, frame types, resources of labels, requests."""
